import com.google.rpc.ErrorInfo;
import com.healthomics.v1.GetRunRequest;
import com.healthomics.v1.RunServiceGrpc;
import com.healthomics.v1.WatchRunRequest;
import io.grpc.StatusException;
import java.nio.file.Path;
import java.time.Duration;

/** Gets a run, and watches another. */
final class Example {
  public static void main(String[] arguments) throws Exception {
    var channel = Client.connect("127.0.0.1:50051", Path.of("service-config.json"), null, null);
    var runs = RunServiceGrpc.newBlockingV2Stub(channel);
    try {
      var request = GetRunRequest.newBuilder().setId("1000003").build();
      System.out.println(Client.statusOf(Client.getRun(runs, request, Duration.ofSeconds(5))));
      var watch = WatchRunRequest.newBuilder().setId("1000005").build();
      Watch.watchRun(runs, watch, run -> System.out.println(Client.statusOf(run)));
    } catch (StatusException error) {
      System.err.println(error.getMessage()); // for example "NOT_FOUND: There is no run with this id."
      Client.detail(error, ErrorInfo.class)
          .ifPresent(info -> System.err.println("reason: " + info.getReason()));
    } finally {
      channel.shutdown();
    }
  }
}
