/* A PKCS#11 module for tests: another module, with the fault that a file names.
 *
 * FAULTY_MODULE: the module to stand before. FAULTY_SWITCH: the file with the fault's name, read at each call.
 * Each login is noted by a byte in the file FAULTY_SWITCH.logins, each decryption by one in FAULTY_SWITCH.decryptions, and a
 * process that it leaves behind by its id and standard input in FAULTY_SWITCH.child.
 * The types are those of the standard's header files on Unix, written out as far as they are needed here.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef unsigned char byte;

enum { FUNCTIONS = 68, LOGIN = 18, ENCRYPT_INIT = 29, ENCRYPT = 30, DECRYPT_INIT = 33, DECRYPT = 34, GENERATE_KEY = 58 };
enum { GET_TOKEN_INFO = 6, GET_ATTRIBUTE_VALUE = 24, FIND_OBJECTS_INIT = 26 };
enum { GENERAL_ERROR = 0x05, FUNCTION_FAILED = 0x06, DEVICE_ERROR = 0x30, DEVICE_REMOVED = 0x32, BUFFER_TOO_SMALL = 0x150, REJECTED = 0x200 };
enum { ALREADY_LOGGED_IN = 0x100, NOT_LOGGED_IN = 0x101 };
enum { AES_GCM = 0x1087 };
enum { FLAGS_AT = 96, USER_PIN_COUNT_LOW = 0x10000 };

struct list { byte version[2]; ulong (*functions[FUNCTIONS])(); };
struct mechanism { ulong type; void *parameter; ulong length; };
struct gcm { byte *iv; ulong iv_length, iv_bits; byte *aad; ulong aad_length, tag_bits; };

static struct list *real, ours;
/* The vector that the "token" drew for the operation under way; each session has one thread. */
static __thread byte drawn[16];
static __thread ulong appended;
/* The first key that decrypts under the fault "bad-key". */
static ulong bad_key;
/* The last two keys that decrypted, and whether the handle of each leads to the other until objects are looked for. */
static ulong keys[2];
static int swapped;

static int fault(const char *name) {
    char found[64] = "";
    FILE *file = fopen(getenv("FAULTY_SWITCH"), "r");
    if (file) {
        if (!fgets(found, sizeof found, file)) found[0] = 0;
        fclose(file);
    }
    return strcmp(found, name) == 0;
}

/* The fault is over once it has happened. */
static int fault_once(const char *name) {
    if (!fault(name)) return 0;
    FILE *file = fopen(getenv("FAULTY_SWITCH"), "w");
    if (file) fclose(file);
    return 1;
}

static void hang(void) { for (;;) pause(); }

static void draw(ulong length) {
    FILE *file = fopen("/dev/urandom", "r");
    if (!file || fread(drawn, 1, length, file) != length) abort();
    fclose(file);
}

static FILE *beside(const char *name, const char *mode) {
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", getenv("FAULTY_SWITCH"), name);
    return fopen(path, mode);
}

static void leave_child(void) {
    char input[4096] = "";
    if (readlink("/proc/self/fd/0", input, sizeof input - 1) < 0) abort();
    pid_t child = fork();
    if (child == 0) hang();
    FILE *file = beside("child", "w");
    if (file) { fprintf(file, "%d %s", (int)child, input); fclose(file); }
}

static void note(const char *what) {
    FILE *file = beside(what, "a");
    if (file) { fputc('x', file); fclose(file); }
}

static ulong login(ulong session, ulong user, byte *pin, ulong length) {
    note("logins");
    if (fault("hang-login")) hang();
    if (fault("slow-login")) sleep(1);
    if (fault("login-general-error") || fault("login-may-be-counted")) return GENERAL_ERROR;
    if (fault("already-logged-in")) return ALREADY_LOGGED_IN;
    if (fault("child-login")) leave_child();
    return real->functions[LOGIN](session, user, pin, length);
}

static ulong get_token_info(ulong slot, byte *info) {
    ulong result = real->functions[GET_TOKEN_INFO](slot, info);
    if (result == 0 && fault("login-may-be-counted")) {
        ulong flags;
        memcpy(&flags, info + FLAGS_AT, sizeof flags);
        flags |= USER_PIN_COUNT_LOW;
        memcpy(info + FLAGS_AT, &flags, sizeof flags);
    }
    return result;
}

static ulong encrypt_init(ulong session, struct mechanism *mechanism, ulong key) {
    appended = 0;
    if (mechanism->type != AES_GCM) return real->functions[ENCRYPT_INIT](session, mechanism, key);
    struct gcm *given = mechanism->parameter;
    if (fault("overwrite-iv")) {
        draw(given->iv_length);
        memcpy(given->iv, drawn, given->iv_length);
    }
    if (fault("append-iv-12")) appended = 12;
    if (fault("append-iv-16")) appended = 16;
    if (!appended) return real->functions[ENCRYPT_INIT](session, mechanism, key);
    draw(appended);
    struct gcm own = *given;
    own.iv = drawn;
    own.iv_length = appended;
    own.iv_bits = 8 * appended;
    struct mechanism with = {AES_GCM, &own, sizeof own};
    return real->functions[ENCRYPT_INIT](session, &with, key);
}

static ulong encrypt(ulong session, byte *plain, ulong plain_length, byte *out, ulong *out_length) {
    ulong room = out ? *out_length : 0;
    if (out && appended) {
        if (room < appended) return BUFFER_TOO_SMALL;
        *out_length = room - appended;
    }
    ulong result = real->functions[ENCRYPT](session, plain, plain_length, out, out_length);
    if (result == 0 && out && appended) memcpy(out + *out_length, drawn, appended);
    if (result == 0) *out_length += appended;
    if (result == 0 && out && fault("wrong-tag")) out[*out_length - 1] ^= 1;
    if (result == 0 && out && fault("half-answer")) *out_length /= 2;
    return result;
}

static ulong led(ulong object) {
    if (!swapped || (object != keys[0] && object != keys[1])) return object;
    return object == keys[0] ? keys[1] : keys[0];
}

/* A token that is lost, or that permits nothing any more, whichever function is called; 0 for another one. */
static ulong refused_all(void) {
    if (fault("gone-all")) return DEVICE_ERROR;
    return fault("reject-all") ? REJECTED : 0;
}

static ulong get_attribute_value(ulong session, ulong object, void *template, ulong count) {
    ulong refused = refused_all();
    if (refused) return refused;
    return real->functions[GET_ATTRIBUTE_VALUE](session, led(object), template, count);
}

static ulong find_objects_init(ulong session, void *template, ulong count) {
    swapped = 0;
    return real->functions[FIND_OBJECTS_INIT](session, template, count);
}

static ulong decrypt_init(ulong session, void *mechanism, ulong key) {
    if (key != keys[0]) {
        keys[1] = keys[0];
        keys[0] = key;
    }
    if (fault_once("swap-handles")) swapped = 1;
    /* Over before the decryption is noted, so that the next one is not slow. */
    int slow = fault_once("slow-decrypt-once");
    note("decryptions");
    if (slow) sleep(2);
    if (fault("hang-decrypt")) hang();
    if (fault("slow-decrypt")) sleep(4);
    if (fault("pause-decrypt")) usleep(500000);
    if (fault_once("pause-once")) usleep(200000);
    if (fault_once("crash-decrypt-once") || fault("crash-decrypt")) abort();
    if (fault_once("logged-out-once")) return NOT_LOGGED_IN;
    if (fault("device-removed")) return DEVICE_REMOVED;
    if (fault("reject")) return REJECTED;
    ulong refused = refused_all();
    if (refused) return refused;
    if (fault("bad-key")) {
        if (!bad_key) bad_key = key;
        if (key == bad_key) return FUNCTION_FAILED;
    }
    return real->functions[DECRYPT_INIT](session, mechanism, led(key));
}

static ulong decrypt(ulong session, byte *cipher, ulong cipher_length, byte *out, ulong *out_length) {
    if (fault("general-error")) return GENERAL_ERROR;
    ulong result = real->functions[DECRYPT](session, cipher, cipher_length, out, out_length);
    if (result == 0 && out && fault("wrong-plaintext")) out[0] ^= 1;
    /* The plaintext is in the caller's memory by then. */
    if (result == 0 && out && fault("late-general-error")) return GENERAL_ERROR;
    return result;
}

static ulong generate_key(ulong session, void *mechanism, void *template, ulong count, ulong *key) {
    ulong result = real->functions[GENERATE_KEY](session, mechanism, template, count, key);
    if (result == 0 && fault("removed-after-generate")) return DEVICE_REMOVED;
    return result;
}

ulong C_GetFunctionList(struct list **list) {
    if (!real) {
        void *module = dlopen(getenv("FAULTY_MODULE"), RTLD_NOW);
        ulong (*get)(struct list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
        if (!get || get(&real)) return GENERAL_ERROR;
        ours = *real;
        ours.functions[GET_TOKEN_INFO] = (ulong(*)())get_token_info;
        ours.functions[LOGIN] = (ulong(*)())login;
        ours.functions[GET_ATTRIBUTE_VALUE] = (ulong(*)())get_attribute_value;
        ours.functions[FIND_OBJECTS_INIT] = (ulong(*)())find_objects_init;
        ours.functions[ENCRYPT_INIT] = (ulong(*)())encrypt_init;
        ours.functions[ENCRYPT] = (ulong(*)())encrypt;
        ours.functions[DECRYPT_INIT] = (ulong(*)())decrypt_init;
        ours.functions[DECRYPT] = (ulong(*)())decrypt;
        ours.functions[GENERATE_KEY] = (ulong(*)())generate_key;
    }
    *list = &ours;
    return 0;
}
