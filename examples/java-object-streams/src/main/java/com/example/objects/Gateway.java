package com.example.objects;

import com.example.claviger.ApiClient;
import com.example.claviger.ApiException;
import com.example.claviger.api.DataKeysApi;
import com.example.claviger.model.DataKey;
import com.example.claviger.model.GenerateDataKeyRequest;
import com.example.claviger.model.UnwrapRequest;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/** The calls that objects need, each repeated while the gateway says that it may succeed later. No data key is kept. */
final class Gateway {
    private static final int ATTEMPTS = 5;
    /** The time of a call with all its attempts. */
    private static final Duration TIMEOUT = Duration.ofSeconds(30);

    private interface Call<T> {
        T send() throws ApiException;
    }

    private final DataKeysApi dataKeys;

    private Gateway(ApiClient client) {
        dataKeys = new DataKeysApi(client);
    }

    /** Of the variables that `claviger dev` prints. */
    static Gateway fromEnvironment() throws IOException {
        var client = new ApiClient();
        client.setBasePath(variable("CLAVIGER_ADDRESS"));
        // The file is read for each request, so a token that is replaced is used at once.
        var tokenFile = Path.of(variable("CLAVIGER_TOKEN_FILE"));
        client.setBearerToken(() -> read(tokenFile));
        if (System.getenv("CLAVIGER_TENANT") != null) {
            client.addDefaultHeader("Claviger-Tenant", System.getenv("CLAVIGER_TENANT"));
        }
        // Who redirects is not the gateway. OkHttp's own repetitions know nothing of `retryable`. That of a 503 with `Retry-After: 0`
        // cannot be switched off, but the gateway's shortest pause is 1.
        client.setHttpClient(client.getHttpClient().newBuilder()
            .followRedirects(false).retryOnConnectionFailure(false).callTimeout(Duration.ofSeconds(10)).build());
        return new Gateway(client);
    }

    DataKey generateDataKey(String key, Map<String, String> context) throws GatewayException, InterruptedException {
        return repeated(() -> dataKeys.generateDataKey(key, new GenerateDataKeyRequest().context(context), null, null, null));
    }

    byte[] unwrap(String wrapped, Map<String, String> context) throws GatewayException, InterruptedException {
        return repeated(() -> dataKeys.unwrap(new UnwrapRequest().wrapped(wrapped).context(context), null, null, null)).getPlaintext();
    }

    private static <T> T repeated(Call<T> call) throws GatewayException, InterruptedException {
        var end = Instant.now().plus(TIMEOUT);
        for (int attempt = 1; ; attempt++) {
            GatewayException failure;
            try {
                return call.send();
            } catch (ApiException error) {
                failure = GatewayException.of(error);
            } catch (UncheckedIOException error) {
                throw GatewayException.token(error);
            } catch (RuntimeException error) {
                failure = GatewayException.notUnderstood(error);
            }
            // A random part, so that many clients do not come back at the same moment.
            var pause = failure.retryAfter().plusMillis(ThreadLocalRandom.current().nextLong(500));
            if (!failure.isRetryable() || attempt == ATTEMPTS || Instant.now().plus(pause).isAfter(end)) {
                throw failure;
            }
            Thread.sleep(pause.toMillis());
        }
    }

    private static String variable(String name) throws IOException {
        var value = System.getenv(name);
        if (value == null) {
            throw new IOException(name + " must be set");
        }
        return value;
    }

    private static String read(Path file) {
        try {
            return Files.readString(file).strip();
        } catch (IOException error) {
            throw new UncheckedIOException("The token file cannot be read: " + file, error);
        }
    }
}
