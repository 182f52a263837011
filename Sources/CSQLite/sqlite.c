#include "sfm_sqlite.h"

int sfm_sqlite_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int count) {
  // A NULL pointer would bind NULL where an empty blob is meant.
  return sqlite3_bind_blob(statement, index, bytes ? bytes : "", count, SQLITE_TRANSIENT);
}

int sfm_sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text, int count) {
  return sqlite3_bind_text(statement, index, text, count, SQLITE_TRANSIENT);
}
