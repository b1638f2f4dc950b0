package com.example.objects;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.Base64;

/**
 * The format of encrypted files (docs/file-format.md), as streams of any length in constant memory. What this writes opens in every client
 * and by `claviger decrypt`, and the other way round.
 */
final class EncryptedObject {
    private static final byte[] MAGIC = {'C', 'L', 'F', 1};
    private static final String TEXT_FORM = "clv1.";
    private static final int LONGEST_ENVELOPE = 16_384;
    private static final int SALT = 24;

    /** The object is damaged: it is no use to try again. */
    static final class DamagedException extends IOException {
        DamagedException(String code) {
            super("The object does not open: take another copy. [" + code + "]");
        }
    }

    /** Unwraps a wrapped key. */
    interface Unwrap {
        byte[] apply(String wrapped) throws GatewayException, InterruptedException;
    }

    private EncryptedObject() {}

    /** Encrypts all of `content`. The data key must be new: it encrypts this object and no other one. It is overwritten at the end. */
    static void encrypt(byte[] dataKey, String wrapped, InputStream content, OutputStream object)
        throws IOException, GeneralSecurityException {
        try {
            var header = header(Base64.getUrlDecoder().decode(wrapped.substring(TEXT_FORM.length())));
            var salt = new byte[SALT];
            new SecureRandom().nextBytes(salt);
            var chunks = new Chunks(dataKey, MessageDigest.getInstance("SHA-256").digest(header), salt);
            object.write(header);
            object.write(salt);
            object.write(chunks.commitment);
            for (long number = 0; ; number++) {
                var chunk = content.readNBytes(Chunks.SIZE);
                object.write(chunks.encrypt(number, chunk));
                // The last chunk is always shorter, and may be empty.
                if (chunk.length < Chunks.SIZE) {
                    return;
                }
            }
        } finally {
            Arrays.fill(dataKey, (byte) 0);
        }
    }

    /**
     * Decrypts all of `object`. Each chunk is written once it is authenticated, and the end of the object is known at the end only: after an
     * exception discard what was written.
     */
    static void decrypt(Unwrap unwrap, InputStream object, OutputStream content)
        throws IOException, GeneralSecurityException, GatewayException, InterruptedException {
        if (!Arrays.equals(read(object, 3), 0, 3, MAGIC, 0, 3)) {
            throw new DamagedException("file_unrecognized");
        }
        if (read(object, 1)[0] != MAGIC[3]) {
            throw new DamagedException("file_version_unsupported");
        }
        int length = ByteBuffer.wrap(read(object, 4)).getInt();
        if (length < 0 || length > LONGEST_ENVELOPE) {
            throw new DamagedException("file_damaged");
        }
        var envelope = read(object, length);
        var salt = read(object, SALT);
        var commitment = read(object, Chunks.COMMITMENT);
        var dataKey = unwrap.apply(TEXT_FORM + Base64.getUrlEncoder().withoutPadding().encodeToString(envelope));
        try {
            var chunks = new Chunks(dataKey, MessageDigest.getInstance("SHA-256").digest(header(envelope)), salt);
            if (dataKey.length != Chunks.DATA_KEY || !MessageDigest.isEqual(commitment, chunks.commitment)) {
                throw new DamagedException("file_header_mismatch");
            }
            for (long number = 0; ; number++) {
                var chunk = object.readNBytes(Chunks.SIZE + Chunks.TAG);
                if (chunk.length < Chunks.TAG) {
                    throw new DamagedException("file_truncated");
                }
                content.write(chunks.decrypt(number, chunk));
                if (chunk.length < Chunks.SIZE + Chunks.TAG) {
                    return;
                }
            }
        } finally {
            Arrays.fill(dataKey, (byte) 0);
        }
    }

    private static byte[] header(byte[] envelope) {
        var header = new ByteArrayOutputStream();
        header.writeBytes(MAGIC);
        header.writeBytes(ByteBuffer.allocate(4).putInt(envelope.length).array());
        header.writeBytes(envelope);
        return header.toByteArray();
    }

    private static byte[] read(InputStream object, int length) throws IOException {
        var bytes = object.readNBytes(length);
        if (bytes.length < length) {
            throw new DamagedException("file_truncated");
        }
        return bytes;
    }
}
