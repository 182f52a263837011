// SQLite for Swift: the library's own header, and what its macros hide.
#ifndef SFM_SQLITE_H
#define SFM_SQLITE_H

#include <sqlite3.h>

/// SQLITE_TRANSIENT, a cast that Swift cannot import: SQLite copies what is bound.
int sfm_sqlite_bind_blob(sqlite3_stmt *_Nonnull statement, int index, const void *_Nullable bytes, int count);
int sfm_sqlite_bind_text(sqlite3_stmt *_Nonnull statement, int index, const char *_Nonnull text, int count);

#endif
