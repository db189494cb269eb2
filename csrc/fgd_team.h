/* The worker team: one parallel region at a time, threads that spin briefly and then park.
 * Started lazily, forgotten after fork and started anew in the child.  Only the workers that a
 * region asks for wake up. */
#ifndef FGD_TEAM_H
#define FGD_TEAM_H

enum { FGD_MAX_THREADS = 256 };

/* What a region's function is given: its place in the team and the team's barrier. */
typedef struct {
    int id;        /* 0 is the calling thread */
    int n_threads;
} fgd_worker;

typedef void (*fgd_region)(void *context, const fgd_worker *worker);

/* Runs region on n_threads threads, the caller being one, and returns when all are done.
 * The team is smaller than asked for if threads cannot be started, and is the caller alone
 * if another thread of the process is inside a region: results do not depend on its size.
 * Every worker has the floating-point mode of fgd_fp_enter. */
void fgd_team_run(int n_threads, fgd_region region, void *context);

/* Waits until every thread of the region has come here; what they wrote before is visible. */
void fgd_team_barrier(const fgd_worker *worker);

/* The most threads that any region may have, whatever is asked for; 0 = no limit.  A setting of
 * the process, exported so that threadpoolctl finds it in the shared object. */
#if defined(_WIN32)
#define FGD_EXPORT __declspec(dllexport)
#else
#define FGD_EXPORT __attribute__((visibility("default")))
#endif
FGD_EXPORT int fastgd_get_num_threads(void);
FGD_EXPORT void fastgd_set_num_threads(int n_threads);

#endif
