package com.example.objects;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/** C2SP chunked encryption, version 1, as Cobblestone-256 (https://c2sp.org/chunked-encryption): each chunk is bound to its number. */
final class Chunks {
    /** Lengths in bytes: of a full chunk's content, of its tag, of the data key and of the commitment. */
    static final int SIZE = 16_384, TAG = 16, DATA_KEY = 32, COMMITMENT = 32;

    private static final int KEY = 32, NONCE = 12;
    private static final long MOST = 1L << 38;
    private static final byte[] LABEL = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0".getBytes(StandardCharsets.US_ASCII);

    final byte[] commitment;
    private final SecretKeySpec key;
    private final BigInteger baseNonce;
    private final Cipher cipher;

    Chunks(byte[] dataKey, byte[] context, byte[] salt) throws GeneralSecurityException {
        cipher = Cipher.getInstance("AES/GCM/NoPadding");
        var derived = expand(dataKey, KEY + NONCE + COMMITMENT, LABEL, salt, context);
        key = new SecretKeySpec(derived, 0, KEY, "AES");
        baseNonce = new BigInteger(1, Arrays.copyOfRange(derived, KEY, KEY + NONCE));
        commitment = Arrays.copyOfRange(derived, KEY + NONCE, derived.length);
        Arrays.fill(derived, (byte) 0);
    }

    byte[] encrypt(long number, byte[] content) throws GeneralSecurityException, IOException {
        cipher.init(Cipher.ENCRYPT_MODE, key, nonce(number));
        return cipher.doFinal(content);
    }

    byte[] decrypt(long number, byte[] chunk) throws GeneralSecurityException, IOException {
        try {
            cipher.init(Cipher.DECRYPT_MODE, key, nonce(number));
            return cipher.doFinal(chunk);
        } catch (AEADBadTagException changed) {
            throw new EncryptedObject.DamagedException("file_damaged");
        }
    }

    private GCMParameterSpec nonce(long number) throws IOException {
        if (number >= MOST) {
            throw new EncryptedObject.DamagedException("file_damaged");
        }
        // A leading zero of the sign, or none: the last bytes are the number's.
        var bytes = baseNonce.xor(BigInteger.valueOf(number)).toByteArray();
        var nonce = new byte[NONCE];
        int length = Math.min(bytes.length, NONCE);
        System.arraycopy(bytes, bytes.length - length, nonce, NONCE - length, length);
        return new GCMParameterSpec(8 * TAG, nonce);
    }

    /** HKDF-Expand with SHA-512. */
    private static byte[] expand(byte[] key, int length, byte[]... info) throws GeneralSecurityException {
        var mac = Mac.getInstance("HmacSHA512");
        mac.init(new SecretKeySpec(key, "HmacSHA512"));
        var derived = new byte[length];
        var block = new byte[0];
        for (int made = 0, number = 1; made < length; made += block.length, number++) {
            mac.update(block);
            for (var part : info) {
                mac.update(part);
            }
            block = mac.doFinal(new byte[] {(byte) number});
            System.arraycopy(block, 0, derived, made, Math.min(block.length, length - made));
        }
        return derived;
    }
}
