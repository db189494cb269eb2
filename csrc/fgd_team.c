/* Worker team.  Whoever waits spins for a time that is measured, and then
 * sleeps.  Where cores are fewer than runnable threads, waits soon sleep at once, and the team
 * becomes smaller for a while: a thread that waits for a core is waited for by all others. */
#define _GNU_SOURCE /* pthread_setname_np, sched_getcpu, syscall */
#include "fgd_team.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "fgd_common.h"
#include "fgd_cpu.h"
#include "fgd_system.h"

/* Nanoseconds of spinning.  A worker without a region must be asleep 50 microseconds after a
 * call's end, the system call and a late look at the clock included.  At a barrier the others
 * are at work: sleeping pays only if one of them has lost its core. */
enum { IDLE_SPIN = 25000, BARRIER_SPIN = 100000, SHORT_SPIN = 1500 };

/* Waits that spin only shortly after spinning was in vain; doubled each time it is again. */
enum { LEAST_DOUBT = 2, MOST_DOUBT = 128 };

/* Nanoseconds between two looks at how long threads have waited for a core, and for which the
 * team is then smaller: doubled each time it has to be again. */
enum { LOOK_EVERY = 20000000, LEAST_PAUSE = 100000000, MOST_PAUSE = 800000000 };

/* Rounds between two looks at the clock: `pause` takes 10 to 140 cycles, so at most 1 us. */
enum { ROUNDS = 16 };

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

/* A number that threads wait to see changed.  The lock is touched only if there are sleepers;
 * their count has a line of its own, which spinning threads do not ask for. */
typedef struct {
    _Alignas(FGD_ALIGN_BYTES) atomic_uint value;
    _Alignas(FGD_ALIGN_BYTES) atomic_int sleepers;
    fgd_lock lock;
    fgd_condition changed;
} event;

/* What one thread has learned of spinning at one kind of wait. */
typedef struct {
    unsigned doubt; /* waits to spin shortly after the next vain one */
    unsigned left;  /* of those, still to come */
} patience;

/* A place in the team; the first is the caller's. */
typedef struct {
    event go;            /* counts the regions that this worker takes part in */
    patience idle, busy; /* of whoever sits here */
    unsigned moves;      /* of the team's, those that its patience knows of */
    atomic_int core;     /* where the thread was last seen, -1 = nowhere */
    atomic_int task;     /* the system's number of the thread */
    int64_t delay;       /* how long it had waited for a core at the last look */
#if defined(__linux__)
    cpu_set_t cores; /* that the thread may use, while it is kept off one of them */
    int is_kept_off;
#endif
} seat;

static struct {
    fgd_lock region_lock; /* held by the thread that owns the running region */
    int started;                 /* workers that exist, without the caller */
    /* The region that runs: */
    fgd_region region;
    void *context;
    int n_threads;
    _Alignas(FGD_ALIGN_BYTES) atomic_int unfinished; /* workers that have not left it */
    event done;                                      /* counts the regions that all have left */
    _Alignas(FGD_ALIGN_BYTES) atomic_int arrived;    /* at the barrier */
    event phase;                                     /* counts the barriers that all have met */
    seat seats[FGD_MAX_THREADS];
    atomic_uint moves;       /* of threads away from each other's cores */
    atomic_llong last_move;  /* when, in nanoseconds */
    /* How many cores there are for the team; of the thread that owns region_lock: */
    int64_t looked;    /* when the delays were read, 0 = have not been */
    int watched;       /* seats whose delays were */
    unsigned watched_moves;    /* and what team.moves was then */
    int excused;               /* whether the last look was passed over for a move */
    int most;          /* threads of a region until `narrow_end` */
    int64_t narrow_end, pause; /* 0 = not narrowed */
} team;

static atomic_int limit; /* 0 = none */

#if defined(__linux__)
static int own_task(void) { return (int)syscall(SYS_gettid); }

/* Nanoseconds that a thread of this process has been ready to run and without a core. */
static int64_t core_delay(int task)
{
    char path[64], text[96];
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", task);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    const ssize_t n = read(file, text, sizeof text - 1);
    close(file);
    if (n <= 0) return 0;
    text[n] = 0;
    char *rest;
    strtoll(text, &rest, 10); /* time on a core */
    return strtoll(rest, NULL, 10);
}

/* The scheduler likes to put whom it wakes on the core of the waker, and leaves them there while
 * other cores idle: before a sleeping worker is woken, it is kept off the caller's core. */
static void keep_off(seat *s, int core)
{
    const int task = atomic_load_explicit(&s->task, memory_order_relaxed);
    if (task == 0 || core < 0 || core >= CPU_SETSIZE) return;
    if (sched_getaffinity(task, sizeof s->cores, &s->cores) != 0) return;
    if (!CPU_ISSET(core, &s->cores) || CPU_COUNT(&s->cores) < 2) return;
    cpu_set_t others = s->cores;
    CPU_CLR(core, &others);
    s->is_kept_off = sched_setaffinity(task, sizeof others, &others) == 0;
}

/* By the worker, once it runs elsewhere. */
static void allow_all(seat *s)
{
    if (!s->is_kept_off) return;
    s->is_kept_off = 0;
    sched_setaffinity(0, sizeof s->cores, &s->cores);
}

static int own_core(void) { return sched_getcpu(); }

/* Moves the calling thread to a core that it may use and that is not in taken; returns whether
 * there is one. */
static int leave_core(const cpu_set_t *taken)
{
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
    CPU_AND(&others, &allowed, taken);
    CPU_XOR(&others, &allowed, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return 0;
    sched_setaffinity(0, sizeof allowed, &allowed);
    return 1;
}

/* After a thread has come to a core: if another of the team was last seen there, it moves on.  Not
 * often: where all cores are busy, the scheduler brings them together again and again. */
static void part(int id, int n_threads)
{
    cpu_set_t taken;
    CPU_ZERO(&taken);
    for (int other = 0; other < n_threads; other++) {
        const int core = atomic_load_explicit(&team.seats[other].core, memory_order_relaxed);
        if (other != id && core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &taken);
    }
    int core = own_core();
    const int64_t now = fgd_nanoseconds();
    if (core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &taken) &&
        now - atomic_load_explicit(&team.last_move, memory_order_relaxed) > LOOK_EVERY &&
        leave_core(&taken)) {
        core = own_core();
        atomic_store_explicit(&team.last_move, now, memory_order_relaxed);
        /* What all have learned of spinning is about threads that shared a core. */
        atomic_fetch_add_explicit(&team.moves, 1, memory_order_relaxed);
    }
    atomic_store_explicit(&team.seats[id].core, core, memory_order_relaxed);
}
#else
static int own_task(void) { return 0; }
static int64_t core_delay(int task) { return 0 * task; }
static void keep_off(seat *s, int core) { (void)s, (void)core; }
static void allow_all(seat *s) { (void)s; }
static int own_core(void) { return -1; }
static void part(int id, int n_threads) { (void)id, (void)n_threads; }
#endif

static int has_changed(const event *e, unsigned from)
{
    return atomic_load_explicit(&e->value, memory_order_acquire) != from;
}

/* Returns whether the event has changed within so many nanoseconds. */
static int spin(const event *e, unsigned from, int64_t time)
{
    int64_t end = 0;
    for (;;) {
        for (int round = 0; round < ROUNDS; round++) {
            if (has_changed(e, from)) return 1;
            RELAX();
        }
        const int64_t now = fgd_nanoseconds();
        if (end == 0)
            end = now + time;
        else if (now >= end)
            return 0;
    }
}

static void sleep_until_changed(event *e, unsigned from)
{
    fgd_take(&e->lock);
    atomic_fetch_add(&e->sleepers, 1);
    /* Sequentially consistent, as in set(): either this load sees the new value, or set() sees
     * the sleeper. */
    while (atomic_load(&e->value) == from) fgd_wait(&e->changed, &e->lock);
    atomic_fetch_sub(&e->sleepers, 1);
    fgd_give_back(&e->lock);
}

/* Waits, as the thread of a seat, until the event's value is not `from`. */
static void wait_for(event *e, unsigned from, int64_t time, seat *own, patience *p)
{
    const unsigned moves = atomic_load_explicit(&team.moves, memory_order_relaxed);
    if (own->moves != moves) {
        own->moves = moves;
        own->idle = own->busy = (patience){0, 0};
    }
    if (p->left > 0) {
        p->left--;
        if (spin(e, from, SHORT_SPIN)) return;
    } else if (spin(e, from, time)) {
        p->doubt /= 2;
        return;
    } else {
        p->doubt = p->doubt < LEAST_DOUBT      ? LEAST_DOUBT
                   : p->doubt < MOST_DOUBT / 2 ? 2 * p->doubt
                                               : MOST_DOUBT;
        p->left = p->doubt;
    }
    sleep_until_changed(e, from);
    part((int)(own - team.seats), team.n_threads);
}

static void set(event *e, unsigned value)
{
    /* Exchanged, not stored: on x86 that is the same instruction, and emulators of Arm on x86 let
     * a load overtake a sequentially consistent store. */
    atomic_exchange(&e->value, value);
    if (atomic_load(&e->sleepers) == 0) return;
    /* Not within the lock, which the woken would then wait for: one that has counted itself
     * either sleeps by now or will see the value. */
    fgd_take(&e->lock);
    fgd_give_back(&e->lock);
    fgd_wake_all(&e->changed);
}

/* Reads the delays of the seats of a team; returns how much more they are than at the last look,
 * -1 if that one was at another team, or at this one before threads that shared a core parted, but
 * not twice in a row. */
static int64_t new_delays(int n_threads)
{
    const int caller = own_task();
    const unsigned moves = atomic_load_explicit(&team.moves, memory_order_relaxed);
    team.excused = !team.excused && team.watched_moves != moves;
    const int is_same = team.looked && team.watched == n_threads && !team.excused &&
                        atomic_load_explicit(&team.seats[0].task, memory_order_relaxed) == caller;
    int64_t sum = 0;
    atomic_store_explicit(&team.seats[0].task, caller, memory_order_relaxed);
    team.watched = n_threads;
    team.watched_moves = moves;
    for (int id = 0; id < n_threads; id++) {
        seat *s = &team.seats[id];
        const int64_t delay = core_delay(atomic_load_explicit(&s->task, memory_order_relaxed));
        sum += delay - s->delay;
        s->delay = delay;
    }
    return is_same ? sum : -1;
}

/* After a region of n_threads: narrows the team by the cores that it lacked, if that is more
 * than a quarter of one. */
static void look_for_cores(int n_threads)
{
    const int64_t now = fgd_nanoseconds(), time = now - team.looked;
    if (team.looked && time < LOOK_EVERY) return;
    const int64_t delays = new_delays(n_threads);
    team.looked = now;
    if (delays < 0) return;
    if (delays < time / 4) {
        team.pause = 0;
        return;
    }
    const int64_t lacking = (delays + time / 2) / time, left = n_threads - lacking;
    team.most = lacking < 1 ? n_threads - 1 : left > 1 ? (int)left : 1;
    team.pause = team.pause == 0               ? LEAST_PAUSE
                 : team.pause < MOST_PAUSE / 2 ? 2 * team.pause
                                               : MOST_PAUSE;
    team.narrow_end = now + team.pause;
}

/* How many threads a region may have now. */
static int narrowed(int n_threads)
{
    if (team.narrow_end == 0 || n_threads <= team.most) return n_threads;
    if (fgd_nanoseconds() < team.narrow_end) return team.most;
    team.narrow_end = team.looked = 0;
    return n_threads;
}

static void init_event(event *e)
{
    atomic_init(&e->value, 0);
    atomic_init(&e->sleepers, 0);
    fgd_init_lock(&e->lock);
    fgd_init_condition(&e->changed);
}

/* A team of the caller alone.  A child of fork has none of the workers, and may have copied any
 * state of counters and locks: another thread may have been within a region. */
static void forget_team(void)
{
    fgd_init_lock(&team.region_lock);
    team.started = 0;
    atomic_init(&team.unfinished, 0);
    atomic_init(&team.arrived, 0);
    init_event(&team.done);
    init_event(&team.phase);
    for (int id = 0; id < FGD_MAX_THREADS; id++) {
        seat *s = &team.seats[id];
        init_event(&s->go);
        s->idle = s->busy = (patience){0, 0};
        atomic_init(&s->core, -1);
        atomic_init(&s->task, 0);
        s->delay = 0;
#if defined(__linux__)
        s->is_kept_off = 0;
#endif
    }
    team.looked = team.narrow_end = team.pause = 0;
}

/* When the library is loaded: a fork may come while another thread starts the first worker. */
__attribute__((constructor)) static void prepare(void)
{
    forget_team();
    fgd_after_fork(forget_team);
}

void fgd_team_barrier(const fgd_worker *worker)
{
    if (worker->n_threads == 1) return;
    seat *own = &team.seats[worker->id];
    const unsigned phase = atomic_load_explicit(&team.phase.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team.arrived, 1, memory_order_acq_rel) ==
        worker->n_threads - 1) {
        atomic_store_explicit(&team.arrived, 0, memory_order_relaxed);
        set(&team.phase, phase + 1);
    } else {
        wait_for(&team.phase, phase, BARRIER_SPIN, own, &own->busy);
    }
}

static FGD_THREAD worker_main(void *argument)
{
    const int id = (int)(ptrdiff_t)argument;
    seat *own = &team.seats[id];
    atomic_store_explicit(&own->task, own_task(), memory_order_relaxed);
    fgd_fp_enter();
    /* The caller waits for every worker that it has called: none can miss a turn. */
    for (unsigned turn = 0;; turn++) {
        wait_for(&own->go, turn, IDLE_SPIN, own, &own->idle);
        allow_all(own);
        const unsigned done = atomic_load_explicit(&team.done.value, memory_order_relaxed);
        const fgd_worker worker = {id, team.n_threads};
        team.region(team.context, &worker);
        if (atomic_fetch_sub_explicit(&team.unfinished, 1, memory_order_acq_rel) == 1)
            set(&team.done, done + 1);
    }
    return 0;
}

/* Called with region_lock held and no region running. */
static void start_workers(int wanted)
{
    while (team.started < wanted &&
           fgd_start_thread(worker_main, (void *)(ptrdiff_t)(team.started + 1)))
        team.started++;
}

void fgd_team_run(int n_threads, fgd_region region, void *context)
{
    const fgd_worker alone = {0, 1};
    const int most = atomic_load_explicit(&limit, memory_order_relaxed);
    if (most > 0 && n_threads > most) n_threads = most;
    if (n_threads > FGD_MAX_THREADS) n_threads = FGD_MAX_THREADS;
    if (n_threads <= 1 || !fgd_try_take(&team.region_lock)) {
        region(context, &alone);
        return;
    }
    start_workers(n_threads - 1);
    if (n_threads > team.started + 1) n_threads = team.started + 1;
    n_threads = narrowed(n_threads);
    if (n_threads == 1) {
        fgd_give_back(&team.region_lock);
        region(context, &alone);
        return;
    }
    team.region = region;
    team.context = context;
    team.n_threads = n_threads;
    atomic_store_explicit(&team.unfinished, n_threads - 1, memory_order_relaxed);
    const unsigned done = atomic_load_explicit(&team.done.value, memory_order_relaxed);
    const int core = own_core();
    atomic_store_explicit(&team.seats[0].core, core, memory_order_relaxed);
    for (int id = 1; id < n_threads; id++) {
        event *go = &team.seats[id].go;
        if (atomic_load_explicit(&go->sleepers, memory_order_relaxed) > 0)
            keep_off(&team.seats[id], core);
        set(go, atomic_load_explicit(&go->value, memory_order_relaxed) + 1);
    }
    const fgd_worker caller = {0, n_threads};
    region(context, &caller);
    wait_for(&team.done, done, BARRIER_SPIN, &team.seats[0], &team.seats[0].busy);
    look_for_cores(n_threads);
    fgd_give_back(&team.region_lock);
}

int fastgd_get_num_threads(void) { return atomic_load_explicit(&limit, memory_order_relaxed); }

void fastgd_set_num_threads(int n_threads)
{
    atomic_store_explicit(&limit, n_threads > 0 ? n_threads : 0, memory_order_relaxed);
}
