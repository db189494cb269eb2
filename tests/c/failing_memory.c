/* Preloaded into Python: lets allocations and thread starts of chosen libraries fail, and counts
 * the blocks that they hold.  For glibc, whose allocator goes by second names as well.
 *   cc -O1 -g -shared -fPIC -pthread tests/c/failing_memory.c -o failing_memory.so -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* ---- whose allocations ---- */

enum { MOST_RANGES = 64, MOST_BLOCKS = 1 << 20 };
/* The code of libraries whose path has one of these parts in it. */
typedef struct {
    const char *parts;
    int n;
    struct {
        uintptr_t begin, end;
    } ranges[MOST_RANGES];
} code;
static code watched;

static int add_ranges(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    code *found = context;
    /* The program itself has no name. */
    const char *name = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/program";
    char names[512];
    snprintf(names, sizeof names, "%s", found->parts);
    int is_wanted = 0;
    for (char *rest = names, *part; (part = strsep(&rest, ",")) != NULL;)
        is_wanted |= strstr(name, part) != NULL;
    for (int i = 0; is_wanted && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
        if (found->n == MOST_RANGES) abort();
        found->ranges[found->n].begin = info->dlpi_addr + segment->p_vaddr;
        found->ranges[found->n].end = found->ranges[found->n].begin + segment->p_memsz;
        found->n++;
    }
    return 0;
}

static int is_of(const code *libraries, const void *caller)
{
    const uintptr_t at = (uintptr_t)caller;
    for (int i = 0; i < libraries->n; i++)
        if (libraries->ranges[i].begin <= at && at < libraries->ranges[i].end) return 1;
    return 0;
}

static int is_watched(const void *caller) { return is_of(&watched, caller); }

/* ---- which of them fail ---- */

static atomic_long taken, first_failure = -1, end_of_failures = -1, n_failed, n_suspected;
static char suspects[200]; /* functions of libraries, between commas */

/* Whether one of the suspected functions is asking. */
static int is_of_suspect(void)
{
    enum { MOST_FRAMES = 10 };
    void *frames[MOST_FRAMES];
    const int n = *suspects ? backtrace(frames, MOST_FRAMES) : 0;
    for (int i = 0; i < n; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info) || !info.dli_sname) continue;
        char name[100];
        snprintf(name, sizeof name, ",%s,", info.dli_sname);
        if (strstr(suspects, name)) return 1;
    }
    return 0;
}

static int fails(const void *caller)
{
    if (!is_watched(caller)) return 0;
    const long number = atomic_fetch_add(&taken, 1);
    if (number < atomic_load(&first_failure) || number >= atomic_load(&end_of_failures)) return 0;
    atomic_fetch_add(&n_failed, 1);
    if (is_of_suspect()) atomic_fetch_add(&n_suspected, 1);
    return 1;
}

/* ---- what they hold: an open hash table of addresses ---- */

static struct {
    uintptr_t block; /* 0 = never used, 1 = free again */
    const void *caller;
} held[MOST_BLOCKS];
static atomic_flag lock = ATOMIC_FLAG_INIT;

static size_t place_of(uintptr_t block) { return (block >> 4) * 0x9E3779B97F4A7C15u >> 44; }

static void note(void *block, const void *caller)
{
    if (!block || !is_watched(caller)) return;
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {}
    size_t at = place_of((uintptr_t)block);
    size_t tried = 0;
    while (held[at].block > 1) {
        if (++tried == MOST_BLOCKS) abort(); /* more blocks than there is room for */
        at = (at + 1) % MOST_BLOCKS;
    }
    held[at].block = (uintptr_t)block;
    held[at].caller = caller;
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

static void forget(void *block)
{
    if (!block || watched.n == 0) return;
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {}
    size_t at = place_of((uintptr_t)block);
    for (size_t tried = 0; held[at].block != 0 && tried < MOST_BLOCKS; tried++) {
        if (held[at].block == (uintptr_t)block) {
            held[at].block = 1;
            break;
        }
        at = (at + 1) % MOST_BLOCKS;
    }
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* ---- in place of the C library's ---- */

static void *without_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    if (fails(CALLER)) return without_memory();
    void *block = __libc_malloc(size);
    note(block, CALLER);
    return block;
}

void *calloc(size_t n, size_t size)
{
    if (fails(CALLER)) return without_memory();
    void *block = __libc_calloc(n, size);
    note(block, CALLER);
    return block;
}

void *realloc(void *old, size_t size)
{
    if (fails(CALLER)) return without_memory();
    forget(old);
    void *block = __libc_realloc(old, size);
    note(block ? block : old, CALLER);
    return block;
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (fails(CALLER)) return ENOMEM;
    *block = __libc_memalign(alignment, size);
    note(*block, CALLER);
    return *block ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    if (fails(CALLER)) return without_memory();
    void *block = __libc_memalign(alignment, size);
    note(block, CALLER);
    return block;
}

void free(void *block)
{
    forget(block);
    __libc_free(block);
}

static int (*start)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int threads_fail;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    if (threads_fail && is_watched(CALLER)) return EAGAIN;
    if (!start) *(void **)&start = dlsym(RTLD_NEXT, "pthread_create");
    return start(thread, attributes, run, argument);
}

/* ---- for the test ---- */

/* A crash ends the process with code 100, after a line with where it came. */
static void report_crash(int number)
{
    void *frames[40];
    char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "signal %d in", number);
    const int n = backtrace(frames, 40);
    for (int i = 0; i < n && used + 300 < sizeof text; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info)) continue;
        used += (size_t)snprintf(text + used, sizeof text - used, " %.200s+%#tx", info.dli_fname,
                                 (char *)frames[i] - (char *)info.dli_fbase);
    }
    text[used++] = '\n';
    if (write(STDERR_FILENO, text, used) < 0) _exit(101);
    _exit(100);
}

void fgd_catch_crashes(void)
{
    void *frame[1];
    backtrace(frame, 1); /* loads what it needs while there is memory */
    signal(SIGSEGV, report_crash);
    signal(SIGABRT, report_crash);
    signal(SIGBUS, report_crash);
}

/* Watch the libraries whose path has one of these parts in it; "/program": the program itself. */
int fgd_watch(const char *parts)
{
    watched.parts = parts;
    watched.n = 0;
    dl_iterate_phdr(add_ranges, &watched);
    return watched.n;
}

/* From now on allocations number first .. end - 1, counted from 0, fail. */
void fgd_fail(long first, long end)
{
    atomic_store(&taken, 0);
    atomic_store(&n_failed, 0);
    atomic_store(&n_suspected, 0);
    atomic_store(&first_failure, first);
    atomic_store(&end_of_failures, end);
}

/* None fails any more; returns how many have. */
long fgd_heal(void)
{
    atomic_store(&end_of_failures, -1);
    return atomic_load(&n_failed);
}

void fgd_suspect(const char *functions) { snprintf(suspects, sizeof suspects, ",%s,", functions); }

/* How many of those that have failed since fgd_fail a suspected function has asked for. */
long fgd_n_suspected(void) { return atomic_load(&n_suspected); }

void fgd_fail_threads(int fail) { threads_fail = fail; }

/* How many of the blocks that are held such libraries have asked for. */
long fgd_n_held(const char *parts)
{
    code libraries = {.parts = parts};
    dl_iterate_phdr(add_ranges, &libraries);
    long n = 0;
    for (size_t at = 0; at < MOST_BLOCKS; at++)
        n += held[at].block > 1 && is_of(&libraries, held[at].caller);
    return n;
}

/* Who has asked for the blocks that are held, library and offset, to stderr. */
void fgd_who_holds(void)
{
    FILE *file = fdopen(dup(STDERR_FILENO), "w");
    for (size_t at = 0; file && at < MOST_BLOCKS; at++) {
        Dl_info info;
        if (held[at].block <= 1 || !dladdr(held[at].caller, &info)) continue;
        fprintf(file, "%s+%#tx\n", info.dli_fname,
                (const char *)held[at].caller - (const char *)info.dli_fbase);
    }
    if (file) fclose(file);
}
