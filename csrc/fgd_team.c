/* Worker team on POSIX threads.  A region is published under a mutex; idle workers spin for
 * some microseconds before they sleep on the condition variable. */
#define _POSIX_C_SOURCE 200809L
#include "fgd_team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "fgd_cpu.h"

/* Rounds of a waiting loop before the thread gives its core away: about 20 microseconds for
 * an idle worker, after which it parks; at a barrier it yields and keeps waiting. */
enum { SPIN_ROUNDS = 500 };

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

static struct {
    pthread_mutex_t region_lock; /* held by the thread that owns the running region */
    pthread_mutex_t lock;        /* guards the sleeping of workers */
    pthread_cond_t wake;
    int started; /* workers that exist, without the caller */
    unsigned born; /* the generation that the workers being started have missed nothing of */
    /* The region that runs: */
    fgd_region region;
    void *context;
    int n_threads;
    atomic_uint generation; /* counts regions; workers wait for it to change */
    atomic_int unfinished;  /* workers that have not left the region */
    /* Barrier of the region: */
    atomic_int arrived;
    atomic_uint phase;
} team = {
    .region_lock = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

void fgd_team_barrier(const fgd_worker *worker)
{
    if (worker->n_threads == 1) return;
    const unsigned phase = atomic_load_explicit(&team.phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team.arrived, 1, memory_order_acq_rel) ==
        worker->n_threads - 1) {
        atomic_store_explicit(&team.arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team.phase, phase + 1, memory_order_release);
        return;
    }
    for (unsigned round = 0; atomic_load_explicit(&team.phase, memory_order_acquire) == phase;
         round++) {
        if (round < SPIN_ROUNDS)
            RELAX();
        else
            sched_yield();
    }
}

static void *worker_main(void *argument)
{
    const int id = (int)(ptrdiff_t)argument;
    unsigned seen = team.born;
    fgd_fp_enter();
    for (;;) {
        for (int round = 0; round < SPIN_ROUNDS; round++) {
            if (atomic_load_explicit(&team.generation, memory_order_acquire) != seen) break;
            RELAX();
        }
        if (atomic_load_explicit(&team.generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&team.lock);
            while (atomic_load_explicit(&team.generation, memory_order_acquire) == seen)
                pthread_cond_wait(&team.wake, &team.lock);
            pthread_mutex_unlock(&team.lock);
        }
        seen = atomic_load_explicit(&team.generation, memory_order_acquire);
        /* Every worker answers every generation, so the region's fields cannot change under
         * one that is late; those beyond n_threads only answer. */
        if (id < team.n_threads) {
            const fgd_worker worker = {id, team.n_threads};
            team.region(team.context, &worker);
        }
        atomic_fetch_sub_explicit(&team.unfinished, 1, memory_order_acq_rel);
    }
    return NULL;
}

/* A child of fork has none of the workers and may have copied any state of the locks. */
static void forget_team(void)
{
    pthread_mutex_init(&team.region_lock, NULL);
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.wake, NULL);
    team.started = 0;
    atomic_store(&team.generation, 0);
    atomic_store(&team.unfinished, 0);
    atomic_store(&team.arrived, 0);
}

static void register_fork_handler(void) { pthread_atfork(NULL, NULL, forget_team); }

/* Called with region_lock held and no region running. */
static void start_workers(int wanted)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    if (team.started >= wanted) return;
    team.born = atomic_load(&team.generation);
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals are the business of the caller's threads: Ctrl-C must not land in a worker. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team.started < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, worker_main,
                           (void *)(ptrdiff_t)(team.started + 1)) != 0)
            break;
        team.started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void fgd_team_run(int n_threads, fgd_region region, void *context)
{
    const fgd_worker alone = {0, 1};
    if (n_threads > FGD_MAX_THREADS) n_threads = FGD_MAX_THREADS;
    if (n_threads <= 1 || pthread_mutex_trylock(&team.region_lock) != 0) {
        region(context, &alone);
        return;
    }
    start_workers(n_threads - 1);
    if (team.started == 0) {
        pthread_mutex_unlock(&team.region_lock);
        region(context, &alone);
        return;
    }
    if (n_threads > team.started + 1) n_threads = team.started + 1;
    team.region = region;
    team.context = context;
    team.n_threads = n_threads;
    atomic_store_explicit(&team.unfinished, team.started, memory_order_relaxed);
    pthread_mutex_lock(&team.lock);
    atomic_fetch_add_explicit(&team.generation, 1, memory_order_release);
    pthread_cond_broadcast(&team.wake);
    pthread_mutex_unlock(&team.lock);

    const fgd_worker caller = {0, n_threads};
    region(context, &caller);
    for (unsigned round = 0; atomic_load_explicit(&team.unfinished, memory_order_acquire) > 0;
         round++) {
        if (round < SPIN_ROUNDS)
            RELAX();
        else
            sched_yield();
    }
    pthread_mutex_unlock(&team.region_lock);
}
