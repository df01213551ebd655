import com.google.gson.Gson;
import com.google.gson.JsonParser;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.healthomics.v1.GetRunRequest;
import com.healthomics.v1.Run;
import com.healthomics.v1.RunServiceGrpc.RunServiceBlockingV2Stub;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Executor;

/** Calls a HealthOmics gateway: copy this file, and Watch.java to watch runs. */
final class Client {
  /** Returns a channel with a service config. `ca` is for TLS, or null; `token` needs TLS. */
  static ManagedChannel connect(String address, Path config, Path ca, Path token)
      throws IOException {
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    if (ca != null) {
      credentials = TlsChannelCredentials.newBuilder().trustManager(ca.toFile()).build();
    }
    if (token != null) {
      credentials = CompositeChannelCredentials.create(credentials, new TokenFile(token));
    }
    var type = new TypeToken<Map<String, ?>>() {};
    return Grpc.newChannelBuilder(address, credentials)
        .defaultServiceConfig(new Gson().fromJson(Files.readString(config), type))
        .enableRetry()
        .build();
  }

  /** Reads the token for each call, as it may be renewed. */
  private static final class TokenFile extends CallCredentials {
    private static final Metadata.Key<String> KEY =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final Path file;

    TokenFile(Path file) {
      this.file = file;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier to) {
      if (call.getSecurityLevel() != SecurityLevel.PRIVACY_AND_INTEGRITY) {
        to.fail(Status.UNAUTHENTICATED.withDescription("a token is sent only over TLS"));
        return;
      }
      executor.execute(() -> {
        try {
          Metadata headers = new Metadata();
          headers.put(KEY, "Bearer " + Files.readString(file).strip());
          to.apply(headers);
        } catch (IOException error) {
          to.fail(Status.UNAUTHENTICATED.withDescription("no token: " + error).withCause(error));
        }
      });
    }
  }

  /** Returns a run. The deadline is for all attempts together. */
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
    } catch (InvalidProtocolBufferException malformed) {
      return Optional.empty(); // no gateway sent it
    }
    return Optional.empty();
  }

  /** Returns AWS's word for the run's status, even if it is newer than the stubs. */
  static String statusOf(Run run) {
    String newer = run.getUnmodeledJsonMap().get("status");
    if (newer != null) return JsonParser.parseString(newer).getAsString();
    return run.getStatus().name().replaceFirst("^RUN_STATUS_", "");
  }
}
