#define _GNU_SOURCE
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int result(int value) { return value < 0 ? -errno : value; }

int sfm_epoll_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

static int control(int epoll, int operation, int descriptor, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return result(epoll_ctl(epoll, operation, descriptor, &event));
}

int sfm_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t data) {
  return control(epoll, EPOLL_CTL_ADD, descriptor, events, data);
}

int sfm_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t data) {
  return control(epoll, EPOLL_CTL_MOD, descriptor, events, data);
}

int sfm_epoll_remove(int epoll, int descriptor) { return control(epoll, EPOLL_CTL_DEL, descriptor, 0, 0); }

int sfm_epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout_milliseconds) {
  int count = epoll_wait(epoll, events, capacity, timeout_milliseconds);
  if (count < 0 && errno == EINTR) return 0;
  return result(count);
}

int sfm_eventfd_create(void) { return result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

void sfm_eventfd_signal(int descriptor) { eventfd_write(descriptor, 1); }

void sfm_eventfd_drain(int descriptor) {
  eventfd_t value;
  eventfd_read(descriptor, &value);
}

int sfm_resolve(const char *host, uint16_t port, int passive, int numeric, sfm_address *out, int capacity) {
  char service[8];
  snprintf(service, sizeof service, "%u", port);
  int flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0) | (numeric ? AI_NUMERICHOST : 0);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
  struct addrinfo *list = NULL;
  int code = getaddrinfo(host, service, &hints, &list);
  if (code != 0) return -1000 - (code < 0 ? -code : code);
  int count = 0;
  for (struct addrinfo *entry = list; entry && count < capacity; entry = entry->ai_next) {
    if (entry->ai_addrlen > sizeof out->storage) continue;
    memcpy(out[count].storage, entry->ai_addr, entry->ai_addrlen);
    out[count].length = entry->ai_addrlen;
    count++;
  }
  freeaddrinfo(list);
  return count;
}

static int stream_socket(const sfm_address *address) {
  const struct sockaddr *target = (const struct sockaddr *)address->storage;
  return socket(target->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void no_delay(int descriptor) {
  int one = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int sfm_listen(const sfm_address *address, int backlog) {
  int descriptor = stream_socket(address);
  if (descriptor < 0) return -errno;
  int one = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(descriptor, (const struct sockaddr *)address->storage, address->length) || listen(descriptor, backlog)) {
    int failure = -errno;
    close(descriptor);
    return failure;
  }
  return descriptor;
}

int sfm_connect(const sfm_address *address) {
  int descriptor = stream_socket(address);
  if (descriptor < 0) return -errno;
  no_delay(descriptor);
  if (connect(descriptor, (const struct sockaddr *)address->storage, address->length) && errno != EINPROGRESS) {
    int failure = -errno;
    close(descriptor);
    return failure;
  }
  return descriptor;
}

int sfm_accept(int descriptor) {
  int accepted = accept4(descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  no_delay(accepted);
  return accepted;
}

int sfm_connect_result(int descriptor) {
  int failure = 0;
  socklen_t length = sizeof failure;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &length)) return -errno;
  return -failure;
}

int sfm_local_port(int descriptor) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  if (getsockname(descriptor, (struct sockaddr *)&storage, &length)) return -errno;
  if (storage.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&storage)->sin6_port);
  return ntohs(((struct sockaddr_in *)&storage)->sin_port);
}

void sfm_peer_name(int descriptor, char *text, size_t capacity) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  char host[64], service[8];
  if (getpeername(descriptor, (struct sockaddr *)&storage, &length) ||
      getnameinfo((struct sockaddr *)&storage, length, host, sizeof host, service, sizeof service,
                  NI_NUMERICHOST | NI_NUMERICSERV)) {
    snprintf(text, capacity, "unknown");
    return;
  }
  snprintf(text, capacity, storage.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, service);
}

void sfm_close(int descriptor) { close(descriptor); }

void sfm_shutdown_writing(int descriptor) { shutdown(descriptor, SHUT_WR); }

void sfm_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }

void sfm_keep_freed_memory(void) {
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
}

void sfm_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }
