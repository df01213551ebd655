import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executor;

/** Sends the token in a file; it reads the file for each call, as it may be renewed. */
final class TokenFile extends CallCredentials {
  private static final Metadata.Key<String> KEY =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private final Path file;

  TokenFile(Path file) {
    this.file = file;
  }

  /** Returns the token in a file; it throws an exception if metadata can't have it. */
  static String read(Path file) throws IOException {
    String text = new String(Files.readAllBytes(file), StandardCharsets.US_ASCII).strip();
    if (!text.matches("[!-~]+")) {
      throw new IOException(file + ": a token has only visible ASCII characters");
    }
    return text;
  }

  @Override
  public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier to) {
    executor.execute(() -> {
      try {
        Metadata headers = new Metadata();
        headers.put(KEY, "Bearer " + read(file));
        to.apply(headers);
      } catch (IOException error) {
        // The file may be being written.
        to.fail(Status.UNAVAILABLE.withDescription("no token: " + error).withCause(error));
      }
    });
  }
}
