package com.example.objects;

import com.example.claviger.ApiException;
import com.example.claviger.model.Problem;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/** A call to the gateway failed. The code says why: that of the gateway's problem, or one of the client's own. */
final class GatewayException extends Exception {
    private final String code;
    private final boolean retryable;
    private final Duration retryAfter;

    private GatewayException(String code, String message, boolean retryable, Duration retryAfter, Throwable cause) {
        super(message + " [" + code + "]", cause);
        this.code = code;
        this.retryable = retryable;
        this.retryAfter = retryAfter;
    }

    static GatewayException of(ApiException error) {
        var problem = problemOf(error);
        if (problem != null) {
            var whatToDo = problem.getWhatToDo() == null ? "" : " " + problem.getWhatToDo();
            var message = problem.getDetail() + whatToDo;
            return new GatewayException(problem.getCode(), message, problem.getRetryable(), retryAfterOf(error), error);
        }
        if (error.getCause() instanceof IOException) {
            // Only calls that may be repeated safely are made here: `x-idempotency` of both operations is `always`.
            var message = "The gateway cannot be reached, or the connection was lost.";
            return new GatewayException("connection_lost", message, true, Duration.ofSeconds(1), error);
        }
        var message = "The response is none of the gateway: what is in between?";
        return new GatewayException("unexpected_response", message, false, Duration.ZERO, error);
    }

    /** A response that the generated client does not understand is a RuntimeException. */
    static GatewayException notUnderstood(RuntimeException error) {
        return of(new ApiException(error));
    }

    /** The token's file cannot be read. */
    static GatewayException token(UncheckedIOException error) {
        return new GatewayException("token_unusable", error.getMessage(), false, Duration.ZERO, error);
    }

    private static Problem problemOf(ApiException error) {
        try {
            return error.getResponseBody() == null ? null : Problem.fromJson(error.getResponseBody());
        } catch (IOException | RuntimeException noProblem) {
            return null;
        }
    }

    private static Duration retryAfterOf(ApiException error) {
        var headers = error.getResponseHeaders() == null ? Map.<String, List<String>>of() : error.getResponseHeaders();
        return headers.entrySet().stream().filter(header -> header.getKey().equalsIgnoreCase("Retry-After"))
            .map(header -> Duration.ofSeconds(Long.parseLong(header.getValue().get(0)))).findFirst().orElse(Duration.ofSeconds(1));
    }

    String code() {
        return code;
    }

    /** Whether the same request may succeed later. */
    boolean isRetryable() {
        return retryable;
    }

    /** The pause before it is worth a try. */
    Duration retryAfter() {
        return retryAfter;
    }
}
