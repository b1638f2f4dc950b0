/* Counts what a process takes from the heap: preloaded into the gateway by run.py.
 *
 * Two numbers stand in the file that GAUGE_COUNTERS names, which is mapped and read by run.py
 * while the process runs: blocks that were asked for, and their bytes. A reallocation counts as a
 * block of its new size. All threads count, and libraries in C as well. Needs glibc, whose own
 * names for the allocator's functions save a look-up of the real ones.
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

struct counters {
    unsigned long blocks;
    unsigned long bytes;
};

/* Counted here until the file is mapped, and where none is named. */
static struct counters unread;
static struct counters *counters = &unread;

__attribute__((constructor)) static void map_counters(void) {
    const char *path = getenv("GAUGE_COUNTERS");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        counters = mapped;
    close(file);
}

static void count(size_t bytes) {
    __atomic_fetch_add(&counters->blocks, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counters->bytes, bytes, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
    count(items * size);
    return __libc_calloc(items, size);
}

void *realloc(void *block, size_t size) {
    count(size);
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = memalign(alignment, size);
    return *block == NULL ? ENOMEM : 0;
}
