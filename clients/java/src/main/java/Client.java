import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.healthomics.v1.GetRunRequest;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunServiceGrpc.RunServiceBlockingV2Stub;
import com.healthomics.v1.RunStatus;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/** Calls a HealthOmics gateway: copy it with TokenFile.java, and Watch.java to watch runs. */
final class Client {
  /**
   * Returns a channel. All arguments except the address are file names. {@code ca}, which is for
   * TLS, and {@code token} may be null; a token needs TLS.
   */
  static ManagedChannel connect(String address, Path config, Path ca, Path token)
      throws IOException {
    if (token != null && ca == null) throw new IllegalArgumentException("a token needs TLS");
    ChannelCredentials credentials = ca == null
        ? InsecureChannelCredentials.create()
        : TlsChannelCredentials.newBuilder().trustManager(ca.toFile()).build();
    if (token != null) {
      TokenFile.read(token); // fails now, not in each call
      credentials = CompositeChannelCredentials.create(credentials, new TokenFile(token));
    }
    var type = new TypeToken<Map<String, ?>>() {};
    return Grpc.newChannelBuilder(address, credentials)
        .defaultServiceConfig(new Gson().fromJson(Files.readString(config), type))
        .enableRetry()
        .keepAliveTime(1, TimeUnit.MINUTES) // finds a dead connection, also while a watch is silent
        .build();
  }

  /** Returns a run. The deadline covers all attempts. */
  static Run getRun(RunServiceBlockingV2Stub runs, GetRunRequest request, Duration deadline)
      throws StatusException {
    return runs.withDeadlineAfter(deadline).getRun(request);
  }

  /** Returns an error's detail of a type; an error that no gateway sent has none. */
  static <T extends Message> Optional<T> detail(StatusException error, Class<T> type) {
    try {
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(type)) return Optional.of(detail.unpack(type));
      }
    } catch (InvalidProtocolBufferException | RuntimeException malformed) { // no gateway sent it
    }
    return Optional.empty();
  }

  /** Returns AWS's word for the run's status, even if it is newer than the stubs. */
  static String statusOf(Run run) {
    String newer = run.getUnmodeledJsonMap().get("status");
    if (newer != null) {
      JsonElement word = JsonParser.parseString(newer);
      return word.isJsonPrimitive() ? word.getAsString() : word.toString();
    }
    if (run.getStatus() == RunStatus.UNRECOGNIZED) return String.valueOf(run.getStatusValue());
    return run.getStatus().name().replaceFirst("^RUN_STATUS_", "");
  }
}
