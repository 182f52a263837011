// Every message and method of Protos/*.proto, for the generator and for reflection.
#ifndef SFM_REGISTRY_H
#define SFM_REGISTRY_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

typedef struct {
  /// Name of the .proto file without its ending.
  const char *_Nonnull file;
  const ProtobufCMessageDescriptor *_Nonnull descriptor;
} sfm_registered_message;

typedef struct {
  const char *_Nonnull file;
  const ProtobufCServiceDescriptor *_Nonnull service;
  const char *_Nonnull method;
  int client_streams;
  int server_streams;
  /// google.protobuf's IdempotencyLevel: 0 unknown, 1 no side effects, 2 idempotent.
  int idempotency;
} sfm_registered_method;

extern const size_t sfm_registered_message_count;
/// `index` is below the count.
const sfm_registered_message *_Nonnull sfm_registered_message_at(size_t index);
extern const size_t sfm_registered_method_count;
/// `index` is below the count.
const sfm_registered_method *_Nonnull sfm_registered_method_at(size_t index);

#endif
