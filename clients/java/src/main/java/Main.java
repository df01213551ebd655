import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import com.google.rpc.RetryInfo;
import com.healthomics.v1.GetRunRequest;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunServiceGrpc;
import com.healthomics.v1.WatchRunRequest;
import io.grpc.ManagedChannel;
import io.grpc.StatusException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

@Command(name = "runs", description = "Asks a HealthOmics gateway for a run, or watches it.")
final class Main implements Callable<Integer> {
  enum Action { get, watch }
  @Parameters(paramLabel = "ACTION", description = "get or watch") Action action;
  @Parameters(paramLabel = "ID", description = "the run's id") String id;
  @Option(names = "--address", paramLabel = "HOST:PORT", defaultValue = "127.0.0.1:50051")
  String address;
  @Option(names = "--deadline", paramLabel = "SECONDS", defaultValue = "5") double deadline;
  @Option(names = "--tls-ca", paramLabel = "FILE") Path ca;
  @Option(names = "--token-file", paramLabel = "FILE", description = "needs --tls-ca") Path token;
  @Option(names = "--service-config", paramLabel = "FILE", defaultValue = "service-config.json")
  Path config;
  @Option(names = "--help", usageHelp = true) boolean help;
  @Spec CommandSpec spec;

  public Integer call() throws Exception {
    if (!(deadline > 0)) throw badUsage("--deadline must be more than 0");
    Consumer<Run> print = run -> System.out.println("status: " + Client.statusOf(run));
    var channel = connect();
    var runs = RunServiceGrpc.newBlockingV2Stub(channel);
    try {
      if (action == Action.get) {
        var limit = Duration.ofMillis((long) (deadline * 1000));
        print.accept(Client.getRun(runs, GetRunRequest.newBuilder().setId(id).build(), limit));
      } else {
        Watch.watchRun(runs, WatchRunRequest.newBuilder().setId(id).build(), print);
      }
      return 0;
    } catch (StatusException error) {
      print(error);
      return 1;
    } finally {
      channel.shutdown();
    }
  }

  ManagedChannel connect() {
    if (token != null && ca == null) throw badUsage("--token-file needs --tls-ca");
    for (Path file : new Path[] {config, ca, token}) {
      if (file != null && !Files.isReadable(file)) throw badUsage("can't read " + file);
    }
    try {
      return Client.connect(address, config, ca, token);
    } catch (IOException | RuntimeException wrong) { // for example a file without certificates
      throw badUsage(wrong.toString().lines().findFirst().orElseThrow());
    }
  }

  RuntimeException badUsage(String message) {
    return new CommandLine.ParameterException(spec.commandLine(), message);
  }

  static void print(StatusException error) {
    System.err.println(error.getMessage()); // for example "NOT_FOUND: There is no run with this id."
    Client.detail(error, ErrorInfo.class)
        .ifPresent(info -> System.err.println("reason: " + info.getReason()));
    Client.detail(error, RetryInfo.class)
        .map(RetryInfo::getRetryDelay)
        .map(delay -> delay.getSeconds() + delay.getNanos() / 1e9)
        .ifPresent(seconds -> System.err.println("retry after: " + seconds + " s"));
    Client.detail(error, BadRequest.class)
        .ifPresent(request -> request.getFieldViolationsList().forEach(fault ->
            System.err.println("field " + fault.getField() + ": " + fault.getDescription())));
    Client.detail(error, RequestInfo.class)
        .ifPresent(info -> System.err.println("request id: " + info.getRequestId()));
  }

  public static void main(String[] arguments) {
    var runs = new CommandLine(new Main());
    runs.setParameterExceptionHandler((wrong, all) -> {
      System.err.println("runs: " + wrong.getMessage());
      return CommandLine.ExitCode.USAGE; // 2
    });
    System.exit(runs.execute(arguments));
  }
}
