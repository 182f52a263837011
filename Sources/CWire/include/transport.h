// Socket, epoll and thread calls that Glibc's Swift module does not show.
// Functions return -errno on failure unless they say otherwise.
#ifndef SFM_TRANSPORT_H
#define SFM_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

/// One resolved address, ready for connect(2) or bind(2).
typedef struct {
  uint8_t storage[128];
  uint32_t length;
} sfm_address;

int sfm_epoll_create(void);
/// `data` comes back with every event.
int sfm_epoll_add(int epoll, int descriptor, uint32_t events, uint64_t data);
int sfm_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t data);
int sfm_epoll_remove(int epoll, int descriptor);
/// Number of events, 0 on timeout or interruption.
int sfm_epoll_wait(int epoll, struct epoll_event *_Nonnull events, int capacity, int timeout_milliseconds);
static inline uint64_t sfm_epoll_data(const struct epoll_event *_Nonnull event) { return event->data.u64; }

int sfm_eventfd_create(void);
void sfm_eventfd_signal(int descriptor);
void sfm_eventfd_drain(int descriptor);

/// `passive` for listening; `numeric` takes addresses only and never blocks, else names are looked up too.
/// Returns how many were written, or -EAI code - 1000.
int sfm_resolve(const char *_Nonnull host, uint16_t port, int passive, int numeric, sfm_address *_Nonnull out,
                int capacity);
/// A nonblocking, close-on-exec listening socket.
int sfm_listen(const sfm_address *_Nonnull address, int backlog);
/// A nonblocking socket whose connection may still be under way.
int sfm_connect(const sfm_address *_Nonnull address);
/// A nonblocking connection, or -EAGAIN where none waits.
int sfm_accept(int descriptor);
/// 0, or -errno of the connection attempt.
int sfm_connect_result(int descriptor);
/// The port that a socket is bound to, or -errno.
int sfm_local_port(int descriptor);
void sfm_peer_name(int descriptor, char *_Nonnull text, size_t capacity);
void sfm_close(int descriptor);
/// Nothing more will be written; reading goes on.
void sfm_shutdown_writing(int descriptor);
void sfm_thread_name(const char *_Nonnull name);
void sfm_ignore_sigpipe(void);
/// The allocator keeps up to 32 MiB that were freed: payloads of some MiB come and go, and a fresh page costs a
/// fault for every 4 KiB, more than encrypting them.
void sfm_keep_freed_memory(void);

#endif
