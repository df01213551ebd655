import com.google.protobuf.util.Durations;
import com.google.rpc.*;
import com.healthomics.v1.*;
import io.grpc.StatusException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.*;

@Command(name = "runs", mixinStandardHelpOptions = true)
final class Main implements Callable<Integer> {
  enum Action { get, watch }
  @Parameters(description = "get or watch") Action action;
  @Parameters(paramLabel = "ID", description = "the run's id") String id;
  @Option(names = "--address", defaultValue = "127.0.0.1:50051") String address;
  @Option(names = "--deadline", paramLabel = "SECONDS", defaultValue = "5") double deadline;
  @Option(names = "--tls-ca", paramLabel = "FILE") Path ca;
  @Option(names = "--token-file", paramLabel = "FILE", description = "needs --tls-ca") Path token;
  @Option(names = "--service-config", defaultValue = "../service-config.json") Path config;

  public Integer call() throws Exception {
    var runs = RunServiceGrpc.newBlockingV2Stub(Client.connect(address, config, ca, token));
    try {
      if (action == Action.get) {
        var limit = Duration.ofMillis((long) (deadline * 1000));
        print(Client.getRun(runs, GetRunRequest.newBuilder().setId(id).build(), limit));
      } else {
        Watch.watchRun(runs, WatchRunRequest.newBuilder().setId(id).build(), Main::print);
      }
      return 0;
    } catch (StatusException error) {
      say("%s", error.getMessage());
      Client.detail(error, ErrorInfo.class).ifPresent(it -> say("reason: %s", it.getReason()));
      Client.detail(error, RetryInfo.class).map(it -> Durations.toMillis(it.getRetryDelay()))
          .ifPresent(millis -> say("retry after: %s s", millis / 1000.0));
      Client.detail(error, BadRequest.class).ifPresent(faults -> faults.getFieldViolationsList()
          .forEach(it -> say("field %s: %s", it.getField(), it.getDescription())));
      Client.detail(error, RequestInfo.class)
          .ifPresent(it -> say("request id: %s", it.getRequestId()));
      return 1;
    }
  }

  static void print(Run run) {
    System.out.println("status: " + Client.statusOf(run));
  }

  static int say(String format, Object... values) {
    System.err.println(String.format(format, values));
    return 2; // the exit code for bad usage
  }

  public static void main(String[] arguments) {
    var runs = new CommandLine(new Main());
    runs.setParameterExceptionHandler((wrong, all) -> say("runs: %s", wrong.getMessage()));
    runs.setExecutionExceptionHandler((wrong, command, all) -> say("runs: %s", wrong));
    System.exit(runs.execute(arguments)); // which closes the channel
  }
}
