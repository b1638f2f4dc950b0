import com.example.claviger.ApiClient;
import com.example.claviger.ApiException;
import com.example.claviger.api.AccessApi;
import com.example.claviger.api.BatchApi;
import com.example.claviger.api.DataKeysApi;
import com.example.claviger.api.KeysApi;
import com.example.claviger.model.BatchUnwrapRequest;
import com.example.claviger.model.CreateKey;
import com.example.claviger.model.GenerateDataKeyRequest;
import com.example.claviger.model.Problem;
import com.example.claviger.model.SetKeyState;
import com.example.claviger.model.UnwrapItem;
import com.example.claviger.model.UnwrapRequest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** What an application does with Claviger, by the client that openapi-generator makes for Java. */
public class Main {
    static final int ATTEMPTS = 4;

    interface Call<T> {
        T send() throws ApiException;
    }

    /** A client for the gateway at an address such as https://gateway.example:8420. */
    static ApiClient connect(String address) throws IOException {
        var client = new ApiClient();
        client.setBasePath(address);
        client.setBearerToken(Files.readString(Path.of(System.getenv("CLAVIGER_TOKEN_FILE"))).strip());
        client.addDefaultHeader("Claviger-Tenant", System.getenv("CLAVIGER_TENANT"));
        return client;
    }

    /** What the gateway refused a call with; null if the call failed in another way. */
    static Problem problemOf(ApiException error) {
        try {
            return error.getResponseBody() == null ? null : Problem.fromJson(error.getResponseBody());
        } catch (IOException | RuntimeException notOfTheGateway) {
            return null;
        }
    }

    /** Repeats a call as long as the gateway says that the same request may succeed later. */
    static <T> T retrying(Call<T> call) throws ApiException, InterruptedException {
        for (int attempt = 1; ; attempt++) {
            try {
                return call.send();
            } catch (ApiException error) {
                var problem = problemOf(error);
                if (attempt == ATTEMPTS || problem == null || !problem.getRetryable()) {
                    throw error;
                }
                var seconds = error.getResponseHeaders().entrySet().stream().filter(header -> header.getKey().equalsIgnoreCase("Retry-After"))
                    .mapToLong(header -> Long.parseLong(header.getValue().get(0))).findFirst().orElse(1);
                Thread.sleep(1000 * seconds);
            }
        }
    }

    /** The code of the problem that a call ends in; null if it succeeds. */
    static String codeOf(Call<?> call) throws InterruptedException {
        try {
            retrying(call);
            return null;
        } catch (ApiException error) {
            var problem = problemOf(error);
            return problem == null ? error.getMessage() : problem.getCode();
        }
    }

    static void done(String step, boolean holds) {
        if (!holds) {
            throw new IllegalStateException(step + ": not what was expected");
        }
        System.out.println("ok " + step);
    }

    public static void main(String[] arguments) throws Exception {
        var client = connect(System.getenv("CLAVIGER_ADDRESS"));
        var keys = new KeysApi(client);
        var dataKeys = new DataKeysApi(client);
        done("connect", retrying(() -> new AccessApi(client).whoAmI(null, null, null)).getOperator());

        // A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
        var once = UUID.randomUUID().toString();
        var key = retrying(() -> keys.createKey(new CreateKey().name("invoices").connection("embedded"), null, null, null, once));
        done("key", key.getState().equals("enabled"));

        var context = Map.of("table", "invoices");
        var made = retrying(() -> dataKeys.generateDataKey("invoices", new GenerateDataKeyRequest().context(context), null, null, null));
        done("data-key", made.getPlaintext().length == 32);

        var request = new UnwrapRequest().wrapped(made.getWrapped()).context(context);
        var opened = retrying(() -> dataKeys.unwrap(request, null, null, null));
        done("unwrap", Arrays.equals(opened.getPlaintext(), made.getPlaintext()));

        var other = new UnwrapRequest().wrapped(made.getWrapped()).context(Map.of("table", "orders"));
        done("context", "ciphertext_rejected".equals(codeOf(() -> dataKeys.unwrap(other, null, null, null))));

        var items = new BatchUnwrapRequest()
            .addItemsItem(new UnwrapItem().wrapped(made.getWrapped()).context(context))
            .addItemsItem(new UnwrapItem().wrapped(made.getWrapped()));
        var results = retrying(() -> new BatchApi(client).batchUnwrap(items, null, null, null)).getItems();
        var bad = results.get(1).getError();
        done("batch", Arrays.equals(results.get(0).getPlaintext(), made.getPlaintext()) && bad.getCode().equals("ciphertext_rejected"));

        var names = new ArrayList<String>();
        String next = null;
        do {
            var token = next;
            var page = retrying(() -> keys.listKeys(2, token, null, null, null, null, null, null));
            page.getItems().forEach(item -> names.add(item.getName()));
            next = page.getNextPageToken();
        } while (next != null);
        done("paging", names.equals(List.of("first", "fourth", "invoices", "second", "third")));

        done("rotate", retrying(() -> keys.rotateKey("invoices", null, null, null, null, null)).getPrimaryVersion() == 2);

        // Without a body here, with an empty one below.
        retrying(() -> keys.disableKey("invoices", null, null, null, null));
        done("disable", "key_disabled".equals(codeOf(() -> dataKeys.unwrap(request, null, null, null))));

        var enabled = retrying(() -> keys.enableKey("invoices", null, null, null, null, new SetKeyState()));
        var disabled = retrying(() -> keys.disableKey("invoices", null, null, null, new SetKeyState()));
        done("no-body", enabled.getState().equals("enabled") && disabled.getState().equals("disabled"));

        // A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
        var stub = connect(System.getenv("CLAVIGER_STUB_ADDRESS"));
        var stubKeys = new KeysApi(stub);
        var stubDataKeys = new DataKeysApi(stub);
        done("retry", retrying(() -> stubDataKeys.unwrap(new UnwrapRequest().wrapped("clv1.busy"), null, null, null)).getVersion() == 1);

        var later = stubKeys.getKey("later", null, null, null);
        var answered = new BatchApi(stub).batchUnwrap(items, null, null, null).getItems();
        var codes = List.of(answered.get(1).getError().getCode(), codeOf(() -> stubKeys.getKey("refused", null, null, null)));
        done("unknown", later.getName().equals("later") && answered.get(0).getKey().equals("later")
            && codes.stream().allMatch("refused_by_a_later_release"::equals));
        done("word", stubKeys.getKey("quarantined", null, null, null).getState().equals("quarantined"));
    }
}
