/* The worker team: every thread of a region gets its share and sees what the others wrote before
 * a barrier, whatever the number of threads, of callers at once, and of threads that the system
 * refuses.  Plain memory is shared on purpose: ThreadSanitizer must find no race.
 *   cc -O1 -g -pthread -fsanitize=thread -Icsrc tests/c/test_team.c csrc/fgd_cpu.c -o test_team
 * ./test_team park: the nanoseconds of a core that a worker takes after a call's end, and asleep.
 * ./test_team cores: of 100 regions after a pause, those whose two threads end on one core.
 * ./test_team speed: the nanoseconds of a region with one barrier.
 * ./test_team fork: children of a process whose other threads are within regions have teams of
 * their own (TSAN_OPTIONS=die_after_fork=0).
 * ./test_team wake: a thread that goes to sleep while what it waits for comes is woken. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* The team's own threads only, of which so many can be started; -1 = any number. */
static int startable = -1;
static int start_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                        void *argument)
{
    if (startable == 0) return EAGAIN;
    if (startable > 0) startable--;
    return pthread_create(thread, attributes, run, argument);
}
#define pthread_create start_thread
#include "../../csrc/fgd_team.c"
#undef pthread_create

enum { CELLS = 60, ROUNDS_OF_REGION = 7 };

typedef struct {
    long cells[2][CELLS]; /* of the last round and of this one */
    int size;             /* of the team */
} work;

/* Each round every cell becomes the sum of its neighbours: all threads' cells are needed. */
static void region(void *context, const fgd_worker *worker)
{
    work *w = context;
    const int first = CELLS * worker->id / worker->n_threads;
    const int end = CELLS * (worker->id + 1) / worker->n_threads;
    if (worker->id == 0) w->size = worker->n_threads;
    for (int round = 0; round < ROUNDS_OF_REGION; round++) {
        const long *from = w->cells[round % 2];
        long *to = w->cells[(round + 1) % 2];
        for (int i = first; i < end; i++)
            to[i] = from[i] + from[(i + 1) % CELLS] + from[(i + CELLS - 1) % CELLS];
        fgd_team_barrier(worker);
    }
}

static int run(int n_threads, long salt, int *size)
{
    const fgd_worker alone = {0, 1};
    work w = {0}, expected;
    for (int i = 0; i < CELLS; i++) w.cells[0][i] = (i * 7 + salt) % 11;
    expected = w;
    region(&expected, &alone);
    fgd_team_run(n_threads, region, &w);
    if (size) *size = w.size;
    return memcmp(w.cells, expected.cells, sizeof w.cells) == 0;
}

static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s FAILED\n", what);
    exit(1);
}

static void *caller(void *argument)
{
    unsigned random = (unsigned)(ptrdiff_t)argument;
    for (int i = 0; i < 300; i++) {
        random = random * 1103515245u + 12345u;
        expect(run(1 + (int)(random >> 16) % 4, (long)random % 100, NULL), "regions of callers");
        if (i % 50 == 0) {
            /* Long enough that workers park. */
            const struct timespec pause = {0, 300000};
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static int64_t clock_now(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void leave_time(void *context, const fgd_worker *worker)
{
    fgd_team_barrier(worker);
    if (worker->id != 1) return;
    team.seats[1].idle = (patience){0, 0}; /* the longest spinning, whatever it has learned */
    *(int64_t *)context = clock_now(CLOCK_THREAD_CPUTIME_ID);
}

/* The worker's time on a core, in nanoseconds; exact while it sleeps. */
static int64_t core_time(void)
{
    char path[64];
    long long time = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", atomic_load(&team.seats[1].task));
    FILE *file = fopen(path, "r");
    expect(file && fscanf(file, "%lld", &time) == 1, "schedstat");
    fclose(file);
    return time;
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure_parking(void)
{
    enum { N = 60 };
    const struct timespec while_parking = {0, 3000000}, while_asleep = {0, 200000000};
    int64_t burnt[N], at_end = 0;
    for (int i = 0; i < N; i++) {
        team.narrow_end = 0;
        fgd_team_run(2, leave_time, &at_end);
        nanosleep(&while_parking, NULL);
        burnt[i] = core_time() - at_end;
    }
    const int64_t before = core_time();
    nanosleep(&while_asleep, NULL);
    qsort(burnt, N, sizeof *burnt, ascending);
    printf("%lld %lld\n", (long long)burnt[N / 2], (long long)(core_time() - before));
}

/* Some work between barriers, so that threads on one core wait for each other. */
static void note_core(void *context, const fgd_worker *worker)
{
    for (int i = 0; i < 3; i++) {
        const int64_t end = clock_now(CLOCK_MONOTONIC) + 300000;
        while (clock_now(CLOCK_MONOTONIC) < end) {}
        fgd_team_barrier(worker);
    }
    ((int *)context)[worker->id] = sched_getcpu();
}

static void count_shared_cores(void)
{
    const struct timespec pause = {0, 3000000};
    cpu_set_t before, after;
    int shared = 0;
    for (int i = 0; i < 101; i++) {
        int cores[2] = {-1, -1};
        team.narrow_end = 0;
        fgd_team_run(2, note_core, cores);
        const int task = atomic_load(&team.seats[1].task);
        if (i == 0) sched_getaffinity(task, sizeof before, &before);
        else shared += cores[0] == cores[1];
        nanosleep(&pause, NULL);
        sched_getaffinity(task, sizeof after, &after);
        expect(CPU_EQUAL(&before, &after), "the worker may use the cores that it could before");
    }
    printf("%d\n", shared);
}

static void meet(void *context, const fgd_worker *worker)
{
    (void)context;
    fgd_team_barrier(worker);
}

static void measure_speed(void)
{
    enum { N = 20000 };
    static int64_t times[N];
    for (int i = 0; i < N; i++) {
        team.narrow_end = 0;
        const int64_t begin = clock_now(CLOCK_MONOTONIC);
        fgd_team_run(2, meet, NULL);
        times[i] = clock_now(CLOCK_MONOTONIC) - begin;
    }
    qsort(times, N, sizeof *times, ascending);
    printf("%lld\n", (long long)times[N / 2]);
}

static void fork_children(void)
{
    pthread_t callers[3];
    for (ptrdiff_t i = 0; i < 3; i++) pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
    for (int i = 0; i < 40; i++) {
        const pid_t child = fork();
        expect(child >= 0, "fork");
        if (child == 0) {
            int size = 0;
            const int ok = run(3, i, &size) && size == 3 && run(2, i, &size) && size == 2;
            _exit(ok ? 0 : 1);
        }
        int status = -1;
        expect(waitpid(child, &status, 0) == child && status == 0, "regions of a child");
        expect(run(2, i, NULL), "regions of its parent");
    }
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
    puts("ok");
}

static event meeting;
static atomic_uint at_meeting; /* two more with each: the sleeper has come, the other too */
enum { MEETINGS = 100000 };

/* Spins for a moment, so that both go on at once, but not for ever: they may share a core. */
static void wait_for_meeting(unsigned count)
{
    for (unsigned spins = 0; atomic_load_explicit(&at_meeting, memory_order_acquire) < count;
         spins++)
        if (spins > 10000) sched_yield();
}

static void *sleeper(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < MEETINGS; i++) {
        atomic_store_explicit(&at_meeting, 2 * i + 1, memory_order_release);
        wait_for_meeting(2 * i + 2);
        sleep_until_changed(&meeting, i);
    }
    return NULL;
}

/* Both start at once, one of them a moment later in turns: the value changes just before, while
 * or just after the sleeper looks at it. */
static void wake_sleepers(void)
{
    pthread_t thread;
    init_event(&meeting);
    pthread_create(&thread, NULL, sleeper, NULL);
    for (unsigned i = 0; i < MEETINGS; i++) {
        wait_for_meeting(2 * i + 1);
        atomic_store_explicit(&at_meeting, 2 * i + 2, memory_order_release);
        for (volatile unsigned pause = 0; pause < i % 8; pause++) {}
        set(&meeting, i + 1);
    }
    pthread_join(thread, NULL);
    puts("ok");
}

int main(int argc, char **argv)
{
    int size;
    if (argc > 1) {
        if (strcmp(argv[1], "fork") == 0) fork_children();
        if (strcmp(argv[1], "wake") == 0) wake_sleepers();
        if (strcmp(argv[1], "park") == 0) measure_parking();
        if (strcmp(argv[1], "cores") == 0) count_shared_cores();
        if (strcmp(argv[1], "speed") == 0) measure_speed();
        return 0;
    }
    startable = 0;
    expect(run(4, 1, &size) && size == 1, "no thread can be started");
    startable = 1;
    expect(run(4, 2, &size) && size == 2, "one thread can be started");
    startable = 1;
    expect(run(4, 3, &size) && size == 3, "another thread can be started later");
    startable = -1;
    expect(run(8, 4, &size) && size == 8, "more threads than cores");
    expect(run(2, 5, &size) && size == 2, "a small region of a large team");
    expect(run(1000, 6, &size) && size == FGD_MAX_THREADS, "more threads than there are seats");
    fastgd_set_num_threads(3);
    expect(run(8, 7, &size) && size == 3 && fastgd_get_num_threads() == 3, "the limit");
    fastgd_set_num_threads(0);
    expect(run(4, 8, &size) && size == 4, "no limit any more");

    pthread_t callers[3];
    for (ptrdiff_t i = 0; i < 3; i++) pthread_create(&callers[i], NULL, caller, (void *)(i + 1));
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
    puts("ok");
    return 0;
}
