// The load on etcd of `make bench-metadata`: callers in a closed loop, on gRPC C++ without TLS.
//
//   etcd-load put|range --ports P,P,... --callers N --connections C --seconds S --warmup W
//                       [--key-bytes K] [--value-bytes V] [--pollers T]
//
// `put` writes one of 1,000 names after the other (KV/Put); `range` reads them (KV/Range,
// linearizable), after it has written all of them. Connections go to the ports in turn, and each
// caller's calls go over the connections in turn: with several ports one caller, too, loads all
// members. Messages are bytes made by hand through the generic API, so that no generated protobuf
// code slows the peer's side. Prints one JSON line.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNames = 1000;
// A load that only fails stops after this many failures instead of spinning until its time is up.
constexpr int kMaximumErrors = 100;

[[noreturn]] void fail(const std::string& message) {
  fprintf(stderr, "etcd-load: %s\n", message.c_str());
  exit(2);
}

/// The `--name value` pairs. A name nobody asks for is a mistake, not ignored.
class Options {
 public:
  Options(int count, char** arguments) {
    for (int index = 2; index < count; index += 2) {
      std::string name = arguments[index];
      if (name.rfind("--", 0) != 0 || index + 1 >= count) fail("unexpected argument " + name);
      values_[name.substr(2)] = arguments[index + 1];
    }
  }

  /// An empty `fallback` means that the option has to be there.
  std::string text(const std::string& name, const std::string& fallback = "") {
    auto found = values_.find(name);
    if (found == values_.end() && fallback.empty()) fail("--" + name + " is missing");
    std::string value = found == values_.end() ? fallback : found->second;
    values_.erase(name);
    return value;
  }

  double number(const std::string& name, double least, double most,
                const std::string& fallback = "") {
    std::string value = text(name, fallback);
    char* end = nullptr;
    double number = strtod(value.c_str(), &end);
    if (value.empty() || *end != 0 || !(number >= least && number <= most)) {
      fail("--" + name + " " + value + " is out of range");
    }
    return number;
  }

  void done() const {
    if (!values_.empty()) fail("--" + values_.begin()->first + " is not known");
  }

 private:
  std::map<std::string, std::string> values_;
};

// MARK: Messages

/// A field of bytes as protobuf encodes it: tag, length as a varint, bytes.
std::string field(int number, const std::string& bytes) {
  std::string encoded(1, char(number << 3 | 2));
  size_t length = bytes.size();
  for (; length > 127; length >>= 7) encoded += char((length & 127) | 128);
  encoded += char(length);
  return encoded + bytes;
}

/// What the callers share: what to send, when to count, and how many calls failed.
struct Plan {
  std::string method;
  std::vector<grpc::ByteBuffer> requests;
  // A reply that is shorter does not hold what was asked for.
  size_t leastReplyBytes;
  Clock::time_point countFrom = Clock::now();
  Clock::time_point end = Clock::time_point::max();
  uint64_t mostCalls = UINT64_MAX;
  std::atomic<uint64_t> calls{0};
  std::atomic<int> errors{0};
  std::mutex errorMutex;
  std::string firstError;

  Plan(const std::string& command, int keyBytes, int valueBytes) {
    bool puts = command == "put";
    method = puts ? "/etcdserverpb.KV/Put" : "/etcdserverpb.KV/Range";
    leastReplyBytes = puts ? 1 : size_t(keyBytes + valueBytes);
    for (int number = 0; number < kNames; number++) {
      std::string digits = std::to_string(number);
      std::string key = std::string(size_t(keyBytes) - digits.size(), 'k') + digits;
      // PutRequest: key = 1, value = 2. RangeRequest: key = 1; `serializable` left out is false.
      std::string message = field(1, key);
      if (puts) message += field(2, std::string(size_t(valueBytes), 'v'));
      grpc::Slice slice(message);
      requests.emplace_back(&slice, 1);
    }
  }

  const grpc::ByteBuffer& next() { return requests[calls.fetch_add(1) % requests.size()]; }

  void failed(const std::string& reason) {
    if (errors.fetch_add(1) != 0) return;
    std::lock_guard<std::mutex> lock(errorMutex);
    firstError = reason;
  }
};

// MARK: Calls

using Stubs = std::vector<std::unique_ptr<grpc::GenericStub>>;

/// Opens `count` connections, to the ports in turn, and returns when all of them are up.
Stubs connect(const std::vector<std::string>& ports, int count) {
  Stubs stubs;
  for (int index = 0; index < count; index++) {
    grpc::ChannelArguments arguments;
    // Channels with one target share one connection unless each has a pool of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // A proxy of the environment is not for this machine.
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    auto channel = grpc::CreateCustomChannel("127.0.0.1:" + ports[index % ports.size()],
                                             grpc::InsecureChannelCredentials(), arguments);
    auto limit = std::chrono::system_clock::now() + std::chrono::seconds(15);
    if (!channel->WaitForConnected(limit)) fail("no connection within 15 seconds");
    stubs.emplace_back(new grpc::GenericStub(channel));
  }
  return stubs;
}

/// One of the callers of the closed loop, with the call it waits for.
struct Caller {
  size_t turn;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
  grpc::ByteBuffer reply;
  grpc::Status status;
  Clock::time_point started;

  void start(const Stubs& stubs, Plan& plan, grpc::CompletionQueue* queue) {
    context.reset(new grpc::ClientContext());
    reply.Clear();
    started = Clock::now();
    call = stubs[turn++ % stubs.size()]->PrepareUnaryCall(context.get(), plan.method, plan.next(),
                                                          queue);
    call->StartCall();
    call->Finish(&reply, &status, this);
  }
};

/// Drives the callers `first`, `first + step`, ... until the time is up; returns the latencies of
/// the counted calls. A call counts when it ends between `countFrom` and `end`.
std::vector<Clock::duration> drive(int first, int step, int count, const Stubs& stubs, Plan& plan) {
  std::vector<Clock::duration> latencies;
  latencies.reserve(1 << 18);
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Caller>> callers;
  for (int index = first; index < count; index += step) {
    callers.emplace_back(new Caller());
    callers.back()->turn = size_t(index);
    callers.back()->start(stubs, plan, &queue);
  }
  size_t open = callers.size();
  void* tag = nullptr;
  bool ok = false;
  while (open > 0 && queue.Next(&tag, &ok)) {
    Caller* caller = static_cast<Caller*>(tag);
    Clock::time_point now = Clock::now();
    if (!caller->status.ok()) {
      plan.failed(caller->status.error_message());
    } else if (caller->reply.Length() < plan.leastReplyBytes) {
      plan.failed("a reply without what was asked for");
    } else if (now >= plan.countFrom && now <= plan.end) {
      latencies.push_back(now - caller->started);
    }
    if (now < plan.end && plan.calls < plan.mostCalls && plan.errors < kMaximumErrors) {
      caller->start(stubs, plan, &queue);
    } else {
      open--;
    }
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return latencies;
}

void report(std::vector<Clock::duration> latencies, int errors, double seconds) {
  std::sort(latencies.begin(), latencies.end());
  auto microseconds = [&](double quantile) {
    if (latencies.empty()) return std::string("null");
    size_t index = std::min(latencies.size() - 1, size_t(double(latencies.size()) * quantile));
    char text[32];
    snprintf(text, sizeof text, "%.1f",
             std::chrono::duration<double, std::micro>(latencies[index]).count());
    return std::string(text);
  };
  printf("{\"calls\": %zu, \"calls_per_s\": %.1f, \"p50_us\": %s, \"p99_us\": %s, "
         "\"errors\": %d}\n",
         latencies.size(), double(latencies.size()) / seconds, microseconds(0.5).c_str(),
         microseconds(0.99).c_str(), errors);
}

int load(const std::string& command, Options& options) {
  std::vector<std::string> ports;
  std::istringstream list(options.text("ports"));
  for (std::string port; std::getline(list, port, ',');) ports.push_back(port);
  int callers = int(options.number("callers", 1, 10000));
  int connections = int(options.number("connections", 1, 1000));
  double seconds = options.number("seconds", 0.01, 3600);
  double warmup = options.number("warmup", 0, 3600);
  int keyBytes = int(options.number("key-bytes", 4, 1 << 16, "16"));
  int valueBytes = int(options.number("value-bytes", 1, 1 << 20, "64"));
  // Two threads make more calls than one where cores are to spare; the peer is to be at its best.
  int pollers = std::min(callers, int(options.number("pollers", 1, 64, "2")));
  options.done();
  if (ports.empty()) fail("--ports is empty");

  Stubs stubs = connect(ports, connections);
  if (command == "range") {
    Plan filling("put", keyBytes, valueBytes);
    filling.mostCalls = kNames;
    drive(0, 1, 16, stubs, filling);
    if (filling.errors > 0) fail(filling.firstError);
  }
  Plan plan(command, keyBytes, valueBytes);
  plan.countFrom = Clock::now() + std::chrono::nanoseconds(int64_t(warmup * 1e9));
  plan.end = plan.countFrom + std::chrono::nanoseconds(int64_t(seconds * 1e9));
  std::vector<std::vector<Clock::duration>> latencies(pollers);
  std::vector<std::thread> threads;
  for (int index = 0; index < pollers; index++) {
    threads.emplace_back(
        [&, index] { latencies[index] = drive(index, pollers, callers, stubs, plan); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int index = 1; index < pollers; index++) {
    latencies[0].insert(latencies[0].end(), latencies[index].begin(), latencies[index].end());
  }
  if (plan.errors > 0) fprintf(stderr, "etcd-load: %s\n", plan.firstError.c_str());
  report(std::move(latencies[0]), plan.errors, seconds);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  std::string command = count > 1 ? arguments[1] : "";
  if (command != "put" && command != "range") {
    fail("usage: etcd-load put|range --name value ... (see the head of etcd_load.cc)");
  }
  Options options(count, arguments);
  return load(command, options);
}
