/* What run.py needs inside the gateway's process: preloaded, while callgrind runs the process.
 *
 * - Blocks that libraries in C ask the C library for are counted, by all threads. A reallocation counts as
 *   a block. The gateway's own blocks come from mimalloc, whose calls are in callgrind's file.
 * - SIGUSR2 has callgrind write what it counted and begin anew. callgrind_control does the same
 *   from outside, but by ptrace, which the gateway forbids to processes of the same user.
 * - The clock stands still on request, so that no timer fires while requests are counted.
 *
 * run.py shares `struct shared` with the process, in the file that GAUGE_SHARED names. Needs glibc,
 * whose own names for the allocator's functions save a look-up of the real ones.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

struct shared {
    unsigned long blocks;
    /* CLOCK_MONOTONIC in nanoseconds when the clock was stopped; 0: it runs. */
    long stopped;
};

/* Used until the file is mapped, and where none is named. */
static struct shared own;
static struct shared *shared = &own;

static void dump(int signal) {
    (void)signal;
    CALLGRIND_DUMP_STATS;
}

__attribute__((constructor)) static void begin(void) {
    struct sigaction action = {.sa_handler = dump, .sa_flags = SA_RESTART};
    sigaction(SIGUSR2, &action, NULL);
    const char *path = getenv("GAUGE_SHARED");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        shared = mapped;
    close(file);
}

static void count(void) {
    __atomic_fetch_add(&shared->blocks, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
    count();
    return __libc_calloc(items, size);
}

void *realloc(void *block, size_t size) {
    count();
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = memalign(alignment, size);
    return *block == NULL ? ENOMEM : 0;
}

#define SECOND 1000000000L

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    long stopped = __atomic_load_n(&shared->stopped, __ATOMIC_RELAXED);
    struct timespec monotonic;
    if (stopped == 0 || syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &monotonic) != 0)
        return 0;
    long since = monotonic.tv_sec * SECOND + monotonic.tv_nsec - stopped;
    long shown = now->tv_sec * SECOND + now->tv_nsec - (since > 0 ? since : 0);
    now->tv_sec = shown / SECOND;
    now->tv_nsec = shown % SECOND;
    return 0;
}
