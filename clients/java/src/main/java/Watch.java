import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunServiceGrpc.RunServiceBlockingV2Stub;
import com.healthomics.v1.WatchRunRequest;
import com.healthomics.v1.WatchRunResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** Watches runs to their end. */
final class Watch {
  private static final int MAX_RETRIES = 10; // in a row, without any response
  private static final long MIN_MILLIS = 50; // of a wait: the gateway's are within a minute
  private static final long MAX_MILLIS = 3_600_000;

  /**
   * Calls {@code onState} with the states of a run until its end. If a stream breaks, it opens
   * another. It throws the last error if that is final, or if the deadline of the current Context
   * or of the stub leaves no time for another stream. It also ends if the Context is cancelled, if
   * the thread is interrupted, or if {@code onState} throws.
   */
  static void watchRun(RunServiceBlockingV2Stub runs, WatchRunRequest first, Consumer<Run> onState)
      throws StatusException, InterruptedException {
    WatchRunRequest.Builder request = first.toBuilder(); // a copy
    for (int failures = 0; ; failures++) {
      BlockingClientCall<?, WatchRunResponse> stream = runs.watchRun(request.build());
      try {
        for (WatchRunResponse response; (response = stream.read()) != null; ) {
          failures = 0;
          if (response.hasRun()) { // else it is a heartbeat
            String uuid = response.getRun().getUuid();
            // to watch only this run again; a read mask may leave it out
            if (!uuid.isEmpty()) request.setUuid(uuid);
            onState.accept(response.getRun());
          }
        }
        return; // the run has ended
      } catch (StatusException error) {
        Optional<Duration> wait = retryDelay(error, failures);
        if (wait.isEmpty() || failures == MAX_RETRIES) throw error;
        if (isLate(Context.current().getDeadline(), wait.get())) throw error;
        if (isLate(runs.getCallOptions().getDeadline(), wait.get())) throw error;
        pause(wait.get());
      } finally {
        stream.cancel("the watch was left", null); // without effect if the stream has ended
      }
    }
  }

  /** Returns the wait until the next stream; empty if the error is final. */
  private static Optional<Duration> retryDelay(StatusException error, int failures) {
    Optional<RetryInfo> retry = Client.detail(error, RetryInfo.class);
    if (retry.isPresent()) {
      var delay = retry.get().getRetryDelay();
      double millis = delay.getSeconds() * 1e3 + delay.getNanos() / 1e6;
      millis = Math.min(Math.max(millis, MIN_MILLIS), MAX_MILLIS);
      return Optional.of(Duration.ofMillis((long) millis));
    }
    if (Client.detail(error, ErrorInfo.class).isPresent()) return Optional.empty();
    double jitter = ThreadLocalRandom.current().nextDouble(0.8, 1.2);
    return switch (error.getStatus().getCode()) {
      // Without a gateway's details, these codes mean that the stream was cut on its way.
      case UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED, DEADLINE_EXCEEDED ->
          Optional.of(Duration.ofMillis((long) (Math.min(500 << failures, 30_000) * jitter)));
      default -> Optional.empty();
    };
  }

  /** Returns whether a deadline passes during a wait; null is no deadline. */
  private static boolean isLate(Deadline deadline, Duration wait) {
    return deadline != null && deadline.timeRemaining(TimeUnit.MILLISECONDS) <= wait.toMillis();
  }

  /** Waits until the next stream; it throws an exception if the Context is cancelled. */
  private static void pause(Duration wait) throws StatusException, InterruptedException {
    CountDownLatch cancelled = new CountDownLatch(1);
    Context.CancellationListener listener = context -> cancelled.countDown();
    Context.current().addListener(listener, Runnable::run);
    try {
      if (cancelled.await(wait.toMillis(), TimeUnit.MILLISECONDS)) {
        throw Contexts.statusFromCancelled(Context.current()).asException();
      }
    } finally {
      Context.current().removeListener(listener);
    }
  }
}
