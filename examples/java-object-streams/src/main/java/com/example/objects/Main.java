package com.example.objects;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.GeneralSecurityException;
import java.util.Map;
import java.util.Set;

/**
 * A store of encrypted objects in the folder `objects`.
 *
 * <p>java -jar target/objects.jar put NAME encrypts its input, and java -jar target/objects.jar get NAME decrypts to its output.
 */
public final class Main {
    private static final String KEY = "objects";
    private static final Path FOLDER = Path.of("objects");
    /** Another object's wrapped key, or a damaged one. Any other code concerns the key, the token or the gateway. */
    private static final Set<String> OF_ONE_OBJECT = Set.of("ciphertext_rejected", "invalid_envelope");
    private static final int DAMAGED = 1, FAILED = 2;

    private Main() {}

    public static void main(String[] arguments) throws GeneralSecurityException, InterruptedException {
        if (arguments.length != 2 || !arguments[1].matches("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")) {
            fail(FAILED, "put NAME, or get NAME");
        }
        try {
            switch (arguments[0]) {
                case "put" -> put(Gateway.fromEnvironment(), arguments[1]);
                case "get" -> get(Gateway.fromEnvironment(), arguments[1]);
                default -> fail(FAILED, "put NAME, or get NAME");
            }
        } catch (EncryptedObject.DamagedException error) {
            fail(DAMAGED, error.getMessage());
        } catch (GatewayException error) {
            fail(OF_ONE_OBJECT.contains(error.code()) ? DAMAGED : FAILED, error.getMessage());
        } catch (IOException error) {
            fail(FAILED, error.toString());
        }
    }

    /** Binds an object to its name, so that it does not open as another one. */
    private static Map<String, String> contextOf(String name) {
        return Map.of("object", name);
    }

    private static void put(Gateway gateway, String name)
        throws IOException, GeneralSecurityException, GatewayException, InterruptedException {
        Files.createDirectories(FOLDER);
        // The object takes its place when all of it is written.
        var part = Files.createTempFile(FOLDER, name, ".part");
        try {
            var dataKey = gateway.generateDataKey(KEY, contextOf(name));
            try (var object = new BufferedOutputStream(Files.newOutputStream(part))) {
                EncryptedObject.encrypt(dataKey.getPlaintext(), dataKey.getWrapped(), System.in, object);
            }
            Files.move(part, FOLDER.resolve(name), StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(part);
        }
    }

    private static void get(Gateway gateway, String name)
        throws IOException, GeneralSecurityException, GatewayException, InterruptedException {
        // Unlike a PrintStream, it throws what goes wrong.
        try (var object = Files.newInputStream(FOLDER.resolve(name)); var output = new FileOutputStream(FileDescriptor.out)) {
            EncryptedObject.decrypt(wrapped -> gateway.unwrap(wrapped, contextOf(name)), object, output);
        }
    }

    private static void fail(int code, String message) {
        System.err.println("objects: " + message);
        System.exit(code);
    }
}
