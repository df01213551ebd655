import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.protobuf.FieldMask;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import com.healthomics.v1.GetRunRequest;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunExport;
import com.healthomics.v1.RunServiceGrpc;
import com.healthomics.v1.RunServiceGrpc.RunServiceBlockingV2Stub;
import com.healthomics.v1.WatchRunRequest;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusException;
import io.grpc.stub.MetadataUtils;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** Runs the cases that it reads from stdin, and prints what each of them returned. */
final class Conformance {
  record Document(Map<String, Server> servers, List<Case> cases) {}

  record Server(String address, String tlsCa, String tokenFile, String serviceConfig) {}

  record Asked(
      String id,
      String uuid,
      List<String> export,
      List<String> paths,
      Long maxStalenessSeconds,
      Long heartbeatSeconds) {}

  record Case(
      String name,
      String server,
      String method,
      Asked request,
      String requestId,
      Double deadlineSeconds,
      Double cancelAfterSeconds,
      Integer cancelAfterStates) {}

  private static final Gson GSON = new GsonBuilder().serializeNulls().create();
  private static final double LONG = 60.0; // the deadline of a case that has none
  private static final ScheduledExecutorService TIMER = Executors.newScheduledThreadPool(1);

  public static void main(String[] arguments) throws Exception {
    checkNumbers();
    var document = GSON.fromJson(new InputStreamReader(System.in, UTF_8), Document.class);
    for (Case each : document.cases()) {
      ManagedChannel channel = connect(document.servers().get(each.server()));
      run(RunServiceGrpc.newBlockingV2Stub(channel), each);
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
    TIMER.shutdownNow();
  }

  /** Throws an exception unless doubles are converted by their shortest decimal form. */
  private static void checkNumbers() {
    for (String text : List.of("20", "2E23", "1E23", "618970019642690100000000000" /* 2^89 */)) {
      var expected = new BigDecimal(text).toBigIntegerExact();
      var actual = Numbers.integer(Double.parseDouble(text));
      if (!actual.equals(expected)) throw new AssertionError(text + " became " + actual);
    }
  }

  private static ManagedChannel connect(Server to) throws Exception {
    Path ca = to.tlsCa() == null ? null : Path.of(to.tlsCa());
    Path token = to.tokenFile() == null ? null : Path.of(to.tokenFile());
    return Client.connect(to.address(), Path.of(to.serviceConfig()), ca, token);
  }

  private static void run(RunServiceBlockingV2Stub runs, Case each) throws Exception {
    double deadline = each.deadlineSeconds() == null ? LONG : each.deadlineSeconds();
    Metadata headers = new Metadata();
    headers.put(key("x-request-id"), each.requestId());
    var trailers = new AtomicReference<>(new Metadata());
    runs = runs.withInterceptors(
        MetadataUtils.newAttachHeadersInterceptor(headers),
        MetadataUtils.newCaptureMetadataInterceptor(new AtomicReference<>(), trailers));
    boolean isWatch = each.method().equals("WatchRun");
    Context.CancellableContext context = isWatch
        ? Context.current().withDeadlineAfter(millis(deadline), TimeUnit.MILLISECONDS, TIMER)
        : Context.current().withCancellation();
    if (each.cancelAfterSeconds() != null) {
      TIMER.schedule(
          () -> context.cancel(null), millis(each.cancelAfterSeconds()), TimeUnit.MILLISECONDS);
    }
    StatusException failure = null;
    Context previous = context.attach();
    try {
      if (isWatch) {
        var states = new ArrayList<Run>();
        Watch.watchRun(runs, watchRequest(each.request()), run -> {
          report(run, each);
          states.add(run);
          Integer last = each.cancelAfterStates();
          if (last != null && states.size() == last) context.cancel(null);
        });
      } else {
        report(Client.getRun(runs, getRequest(each.request()), ofSeconds(deadline)), each);
      }
    } catch (StatusException error) {
      failure = error;
    } finally {
      context.detachAndCancel(previous, null);
    }
    end(each, failure, isWatch ? null : trailers.get());
  }

  private static long millis(double seconds) {
    return (long) (seconds * 1000);
  }

  private static Duration ofSeconds(double seconds) {
    return Duration.ofMillis(millis(seconds));
  }

  private static GetRunRequest getRequest(Asked asked) {
    var request = GetRunRequest.newBuilder().setId(asked.id());
    if (asked.export() != null) {
      asked.export().forEach(it -> request.addExport(RunExport.valueOf("RUN_EXPORT_" + it)));
    }
    if (asked.paths() != null) request.setReadMask(mask(asked));
    if (asked.maxStalenessSeconds() != null) {
      request.setMaxStaleness(Durations.fromSeconds(asked.maxStalenessSeconds()));
    }
    return request.build();
  }

  private static WatchRunRequest watchRequest(Asked asked) {
    var request = WatchRunRequest.newBuilder().setId(asked.id());
    if (asked.uuid() != null) request.setUuid(asked.uuid());
    if (asked.paths() != null) request.setReadMask(mask(asked));
    if (asked.heartbeatSeconds() != null) {
      request.setHeartbeatInterval(Durations.fromSeconds(asked.heartbeatSeconds()));
    }
    return request.build();
  }

  private static FieldMask mask(Asked asked) {
    return FieldMask.newBuilder().addAllPaths(asked.paths()).build();
  }

  private static void report(Run run, Case each) {
    var line = new LinkedHashMap<String, Object>();
    line.put("case", each.name());
    line.put("run", Base64.getEncoder().encodeToString(run.toByteArray()));
    line.put("status", Client.statusOf(run));
    write(line);
  }

  private static void end(Case each, StatusException error, Metadata trailers) {
    var line = new LinkedHashMap<String, Object>();
    line.put("case", each.name());
    line.put("code", error == null ? "OK" : error.getStatus().getCode().name());
    line.put("error", error == null ? null : explain(error));
    if (trailers != null) {
      line.put("trailers", Map.of(
          "x-request-id", all(trailers, "x-request-id"),
          "x-amzn-requestid", all(trailers, "x-amzn-requestid")));
    }
    write(line);
  }

  private static Map<String, Object> explain(StatusException error) {
    var info = Client.detail(error, ErrorInfo.class).orElse(ErrorInfo.getDefaultInstance());
    var retry = Client.detail(error, RetryInfo.class);
    var fields = new LinkedHashMap<String, String>();
    Client.detail(error, BadRequest.class).ifPresent(faults -> faults.getFieldViolationsList()
        .forEach(it -> fields.put(it.getField(), it.getDescription())));
    var request = Client.detail(error, RequestInfo.class);
    var explained = new LinkedHashMap<String, Object>();
    explained.put("message", error.getStatus().getDescription());
    explained.put("reason", info.getReason());
    explained.put("domain", info.getDomain());
    explained.put("metadata", info.getMetadataMap());
    explained.put("retrySeconds",
        retry.map(RetryInfo::getRetryDelay)
            .map(delay -> delay.getSeconds() + delay.getNanos() / 1e9)
            .orElse(null));
    explained.put("fields", fields);
    explained.put("requestId", request.map(RequestInfo::getRequestId).orElse(""));
    return explained;
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static List<String> all(Metadata trailers, String name) {
    var values = trailers.getAll(key(name));
    var list = new ArrayList<String>();
    if (values != null) values.forEach(list::add);
    return list;
  }

  private static void write(Map<String, Object> line) {
    System.out.println(GSON.toJson(line));
    System.out.flush();
  }
}
