/* For the C tests: arrays between two pages that cannot be read or written, right before the first
 * byte or right after the last one, so that an element too far ends the program. */
#ifndef FGD_TEST_GUARDED_H
#define FGD_TEST_GUARDED_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_GUARDED = 4096 };
static struct {
    char *first, *map; /* first byte of the array; the mapping, guards included */
    size_t bytes;
} guarded[MOST_GUARDED];
static size_t n_guarded;
static char guarded_case[512]; /* what the program is doing, for the message of a crash */

static void report_crash(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    char text[800];
    const int n = snprintf(text, sizeof text, "access to guarded memory at %p: %s\n",
                           info->si_addr, guarded_case);
    if (write(STDOUT_FILENO, text, (size_t)n) < 0) _exit(4);
    _exit(3);
}

static void catch_crashes(void)
{
    struct sigaction action = {.sa_sigaction = report_crash, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* bytes of memory that end at a guard (at_end), or begin after one. */
static void *guard(size_t bytes, int at_end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + page - 1) / page * page + (bytes == 0) * page;
    char *map = mmap(NULL, room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + page, room, PROT_READ | PROT_WRITE) != 0 ||
        n_guarded == MOST_GUARDED) {
        puts("no memory for guarded arrays");
        exit(1);
    }
    char *first = at_end ? map + page + room - bytes : map + page;
    guarded[n_guarded].first = first;
    guarded[n_guarded].map = map;
    guarded[n_guarded++].bytes = room + 2 * page;
    return first;
}

/* Returns whether the array is one of those above; it is gone then. */
static int release_guarded(void *array)
{
    for (size_t i = n_guarded; i-- > 0;)
        if (guarded[i].first == array) {
            munmap(guarded[i].map, guarded[i].bytes);
            guarded[i] = guarded[--n_guarded];
            return 1;
        }
    return 0;
}

/* Releases all but the first n. */
static void release_from(size_t n)
{
    while (n_guarded > n) release_guarded(guarded[n_guarded - 1].first);
}

#endif
