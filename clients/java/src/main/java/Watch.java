import com.google.protobuf.util.Durations;
import com.google.rpc.RetryInfo;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunServiceGrpc.RunServiceBlockingV2Stub;
import com.healthomics.v1.WatchRunRequest;
import com.healthomics.v1.WatchRunResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.BlockingClientCall;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** Watches runs to their end. */
final class Watch {
  private static final int MAX_FAILURES = 10; // consecutive, without any response

  /**
   * Calls `onState` with each state of a run until its end. If a stream breaks, watches again.
   * Cancel it, or give it a deadline, by the current Context, or interrupt the thread.
   */
  static void watchRun(RunServiceBlockingV2Stub runs, WatchRunRequest first, Consumer<Run> onState)
      throws StatusException, InterruptedException {
    WatchRunRequest.Builder request = first.toBuilder();
    for (int failures = 0; ; failures++) {
      BlockingClientCall<?, WatchRunResponse> stream = runs.watchRun(request.build());
      try {
        for (WatchRunResponse response; (response = stream.read()) != null; ) {
          failures = 0;
          if (response.hasRun()) { // else it is a heartbeat
            Run run = response.getRun();
            if (!run.getUuid().isEmpty()) request.setUuid(run.getUuid()); // to resume only this run
            onState.accept(run);
          }
        }
        return; // the run has ended
      } catch (StatusException error) {
        Optional<Long> wait = retryMillis(error, failures);
        if (wait.isEmpty() || failures == MAX_FAILURES) throw error;
        sleep(wait.get());
      } finally {
        stream.cancel("the watch was left", null); // without effect if the stream has ended
      }
    }
  }

  /** Returns the wait until the next stream; empty if the error is final. */
  private static Optional<Long> retryMillis(StatusException error, int failures) {
    Optional<RetryInfo> retry = Client.detail(error, RetryInfo.class);
    if (retry.isPresent()) return retry.map(info -> Durations.toMillis(info.getRetryDelay()));
    if (StatusProto.fromThrowable(error).getDetailsCount() > 0) return Optional.empty();
    double jitter = ThreadLocalRandom.current().nextDouble(0.8, 1.2);
    return switch (error.getStatus().getCode()) { // the stream was cut on its way
      case UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED, DEADLINE_EXCEEDED ->
          Optional.of((long) (Math.min(500 << failures, 30_000) * jitter));
      default -> Optional.empty();
    };
  }

  private static void sleep(long millis) throws StatusException, InterruptedException {
    CountDownLatch cancelled = new CountDownLatch(1);
    Context.CancellationListener listener = context -> cancelled.countDown();
    Context.current().addListener(listener, Runnable::run);
    try {
      if (cancelled.await(millis, TimeUnit.MILLISECONDS)) {
        throw Contexts.statusFromCancelled(Context.current()).asException();
      }
    } finally {
      Context.current().removeListener(listener);
    }
  }
}
