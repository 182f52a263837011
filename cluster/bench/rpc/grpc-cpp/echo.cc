// The C++ peer of `make bench-rpc`: a unary echo on gRPC C++ with mutual TLS.
//
//   grpc-cpp-echo serve --port 0 --certs DIR
//   grpc-cpp-echo load  --port P --certs DIR --payload N --concurrency C --seconds S --warmup W
//                       [--connections K] [--pollers T]
//   grpc-cpp-echo idle  --port P --certs DIR --connections N
//
// Messages are raw bytes through the generic API: no protobuf on either side. The server is the
// callback API, which gRPC's authors recommend for speed; the client drives completion queues.
// serve prints `listening PORT`; idle prints `ready N` and holds the connections until its input
// closes; load prints one JSON line.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

const char kMethod[] = "/bench.Echo/Echo";
constexpr int kMaximumMessageBytes = 16 << 20;
// A load that only fails stops after this many failures instead of spinning until its time is up.
constexpr int kMaximumErrors = 100;

[[noreturn]] void fail(const std::string& message) {
  fprintf(stderr, "grpc-cpp-echo: %s\n", message.c_str());
  exit(2);
}

uint64_t monotonicNanoseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return uint64_t(time.tv_sec) * 1000000000 + uint64_t(time.tv_nsec);
}

double processorSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) / 1e9;
}

/// The command and its `--name value` pairs. A name nobody asks for is a mistake, not ignored.
class Options {
 public:
  Options(int count, char** arguments) {
    if (count > 1) command = arguments[1];
    for (int index = 2; index < count; index += 2) {
      std::string name = arguments[index];
      if (name.rfind("--", 0) != 0 || index + 1 >= count) fail("unexpected argument " + name);
      values_[name.substr(2)] = arguments[index + 1];
    }
  }

  std::string text(const std::string& name) {
    auto found = values_.find(name);
    if (found == values_.end()) fail("--" + name + " is missing");
    std::string value = found->second;
    values_.erase(found);
    return value;
  }

  double number(const std::string& name, double least, double most) {
    std::string value = text(name);
    char* end = nullptr;
    double number = strtod(value.c_str(), &end);
    if (value.empty() || *end != 0 || !(number >= least && number <= most)) {
      fail("--" + name + " " + value + " is out of range");
    }
    return number;
  }

  int count(const std::string& name, int least, int most) {
    return int(number(name, least, most));
  }

  int countOr(const std::string& name, int fallback, int least, int most) {
    return values_.count(name) != 0 ? count(name, least, most) : fallback;
  }

  void done() const {
    if (!values_.empty()) fail("--" + values_.begin()->first + " is not known");
  }

  std::string command;

 private:
  std::map<std::string, std::string> values_;
};

/// The certificates that cluster/bench/rpc/certificates.py makes.
struct Certificates {
  explicit Certificates(std::string folder) : folder(std::move(folder)) {}

  std::string read(const std::string& name) const {
    std::ifstream file(folder + "/" + name);
    std::stringstream text;
    text << file.rdbuf();
    if (!file || text.str().empty()) fail("cannot read " + folder + "/" + name);
    return text.str();
  }

  std::string folder;
};

// MARK: Server

/// One call: reads the only message and gives its slices back without copying them.
class Echo : public grpc::ServerGenericBidiReactor {
 public:
  Echo() { StartRead(&message_); }

  void OnReadDone(bool ok) override {
    if (ok) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no message"));
    }
  }

  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer message_;
};

class EchoService : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Echo();
  }
};

int serve(Options& options) {
  int port = options.count("port", 0, 65535);
  Certificates certificates(options.text("certs"));
  options.done();

  grpc::SslServerCredentialsOptions tls(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = certificates.read("ca.pem");
  tls.pem_key_cert_pairs.push_back(
      {certificates.read("server.key"), certificates.read("server.pem")});
  EchoService service;
  int bound = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::SslServerCredentials(tls),
                           &bound);
  builder.RegisterCallbackGenericService(&service);
  builder.SetMaxReceiveMessageSize(kMaximumMessageBytes);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound == 0) fail("cannot listen");
  printf("listening %d\n", bound);
  fflush(stdout);
  server->Wait();
  return 0;
}

// MARK: Client

/// Opens `count` connections and returns when all of them are up.
std::vector<std::unique_ptr<grpc::GenericStub>> connect(int port, const Certificates& certificates,
                                                        int count) {
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = certificates.read("ca.pem");
  tls.pem_private_key = certificates.read("client.key");
  tls.pem_cert_chain = certificates.read("client.pem");
  auto credentials = grpc::SslCredentials(tls);
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  for (int index = 0; index < count; index++) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaximumMessageBytes);
    // Channels with one target share one connection unless each has a pool of its own.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel =
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), credentials, arguments);
    auto limit = std::chrono::system_clock::now() + std::chrono::seconds(15);
    if (!channel->WaitForConnected(limit)) fail("no connection within 15 seconds");
    stubs.emplace_back(new grpc::GenericStub(channel));
  }
  return stubs;
}

grpc::ByteBuffer messageOf(int sizeBytes) {
  grpc::Slice slice(std::string(size_t(sizeBytes), 'Z'));
  return grpc::ByteBuffer(&slice, 1);
}

/// One of the callers of the closed loop, with the call it waits for.
struct Caller {
  grpc::GenericStub* stub;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
  grpc::ByteBuffer reply;
  grpc::Status status;
  uint64_t started = 0;

  void start(const grpc::ByteBuffer& request, grpc::CompletionQueue* queue) {
    context.reset(new grpc::ClientContext());
    reply.Clear();
    started = monotonicNanoseconds();
    call = stub->PrepareUnaryCall(context.get(), kMethod, request, queue);
    call->StartCall();
    call->Finish(&reply, &status, this);
  }
};

/// What the callers share: what to send, when to count, and how many calls failed.
struct Plan {
  grpc::ByteBuffer request;
  uint64_t countFrom;
  uint64_t end;
  std::atomic<int> errors{0};
  std::mutex errorMutex;
  std::string firstError;

  void failed(const std::string& reason) {
    if (errors.fetch_add(1) != 0) return;
    std::lock_guard<std::mutex> lock(errorMutex);
    firstError = reason;
  }
};

/// Drives some of the callers until the time is up; returns the latencies of the counted calls in
/// nanoseconds. A call counts when it ends between `countFrom` and `end`.
std::vector<uint64_t> drive(std::vector<grpc::GenericStub*> stubs, Plan& plan) {
  std::vector<uint64_t> latencies;
  latencies.reserve(1 << 18);
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Caller>> callers;
  for (grpc::GenericStub* stub : stubs) {
    callers.emplace_back(new Caller());
    callers.back()->stub = stub;
    callers.back()->start(plan.request, &queue);
  }
  size_t open = callers.size();
  void* tag = nullptr;
  bool ok = false;
  while (open > 0 && queue.Next(&tag, &ok)) {
    Caller* caller = static_cast<Caller*>(tag);
    uint64_t now = monotonicNanoseconds();
    if (!caller->status.ok()) {
      plan.failed(caller->status.error_message());
    } else if (caller->reply.Length() != plan.request.Length()) {
      plan.failed("the reply has another size than the request");
    } else if (now >= plan.countFrom && now <= plan.end) {
      latencies.push_back(now - caller->started);
    }
    if (now < plan.end && plan.errors < kMaximumErrors) {
      caller->start(plan.request, &queue);
    } else {
      open--;
    }
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return latencies;
}

void report(std::vector<uint64_t> latencies, int errors, double seconds, int payload,
            double clientSeconds) {
  std::sort(latencies.begin(), latencies.end());
  auto microseconds = [&](double quantile) {
    if (latencies.empty()) return std::string("null");
    size_t index = std::min(latencies.size() - 1, size_t(double(latencies.size()) * quantile));
    char text[32];
    snprintf(text, sizeof text, "%.1f", double(latencies[index]) / 1e3);
    return std::string(text);
  };
  double rate = double(latencies.size()) / seconds;
  printf("{\"calls\": %zu, \"errors\": %d, \"seconds\": %.3f, \"calls_per_s\": %.1f, "
         "\"MBps\": %.1f, \"p50_us\": %s, \"p90_us\": %s, \"p99_us\": %s, \"max_us\": %s, "
         "\"client_cpu_s\": %.3f}\n",
         latencies.size(), errors, seconds, rate, rate * 2 * payload / 1e6,
         microseconds(0.5).c_str(), microseconds(0.9).c_str(), microseconds(0.99).c_str(),
         microseconds(1).c_str(), clientSeconds);
}

int load(Options& options) {
  int port = options.count("port", 1, 65535);
  Certificates certificates(options.text("certs"));
  int payload = options.count("payload", 0, kMaximumMessageBytes - 1024);
  int concurrency = options.count("concurrency", 1, 10000);
  double seconds = options.number("seconds", 0.01, 3600);
  double warmup = options.number("warmup", 0, 3600);
  int connections = options.countOr("connections", 1, 1, concurrency);
  // Two threads make more calls than one on two cores; the peer is to be measured at its best.
  int pollers = options.countOr("pollers", std::min(2, concurrency), 1, concurrency);
  options.done();

  auto stubs = connect(port, certificates, connections);
  std::vector<std::vector<grpc::GenericStub*>> shares(pollers);
  for (int index = 0; index < concurrency; index++) {
    shares[index % pollers].push_back(stubs[index % connections].get());
  }
  Plan plan;
  plan.request = messageOf(payload);
  plan.countFrom = monotonicNanoseconds() + uint64_t(warmup * 1e9);
  plan.end = plan.countFrom + uint64_t(seconds * 1e9);
  double clientSeconds = processorSeconds();
  std::vector<std::vector<uint64_t>> latencies(pollers);
  std::vector<std::thread> threads;
  for (int index = 0; index < pollers; index++) {
    threads.emplace_back([&, index] { latencies[index] = drive(shares[index], plan); });
  }
  for (std::thread& thread : threads) thread.join();
  clientSeconds = processorSeconds() - clientSeconds;
  for (int index = 1; index < pollers; index++) {
    latencies[0].insert(latencies[0].end(), latencies[index].begin(), latencies[index].end());
  }
  if (plan.errors > 0) fprintf(stderr, "grpc-cpp-echo: %s\n", plan.firstError.c_str());
  report(std::move(latencies[0]), plan.errors, seconds, payload, clientSeconds);
  return 0;
}

/// One small call proves each connection; then they are held, idle, until the input closes.
int idle(Options& options) {
  int port = options.count("port", 1, 65535);
  Certificates certificates(options.text("certs"));
  int connections = options.count("connections", 1, 100000);
  options.done();

  auto stubs = connect(port, certificates, connections);
  grpc::ByteBuffer request = messageOf(1);
  grpc::CompletionQueue queue;
  for (auto& stub : stubs) {
    Caller caller;
    caller.stub = stub.get();
    caller.start(request, &queue);
    void* tag = nullptr;
    bool ok = false;
    if (!queue.Next(&tag, &ok) || !caller.status.ok()) fail(caller.status.error_message());
  }
  printf("ready %zu\n", stubs.size());
  fflush(stdout);
  while (getchar() != EOF) {
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  Options options(count, arguments);
  if (options.command == "serve") return serve(options);
  if (options.command == "load") return load(options);
  if (options.command == "idle") return idle(options);
  fail("usage: grpc-cpp-echo serve|load|idle --name value ... (see the head of echo.cc)");
}
