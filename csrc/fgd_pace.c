/* Trials of one thread against all. */
#include "fgd_pace.h"

/* A trial: steps of the other way, then of the present one, each after some that bring the data
 * to the caches of whoever works on them. */
enum { OTHER_WARM, OTHER_TIMED, PRESENT_WARM, PRESENT_TIMED, REST };
static const size_t stage_steps[] = {2, 4, 2, 4};

/* Timed steps are taken so many at a time, and the fastest count: what disturbs some of them is not to
 * decide. */
static const size_t timed_at_once = 2;

/* Seconds of training, not of the day: a run of some steps now and then is not to be all trials.
 * A rest is at least rest_by_loss times as long as what the trial before it has lost, unless it has
 * changed something. */
static const double first_rest = 1e-3, least_rest = 5e-3, most_rest = 0.1, rest_by_loss = 100;

/* The other way has to be faster by this much: noise is not to decide. */
static const double gain = 0.95;

static void begin_stage(fgd_pace *pace, int stage)
{
    pace->stage = stage;
    pace->left = stage_steps[stage];
}

static void decide(fgd_pace *pace)
{
    const int changes = pace->seconds[0] < gain * pace->seconds[1];
    pace->uses_all ^= changes;
    pace->step = pace->seconds[!changes];
    pace->rest = changes || pace->rest == 0 ? least_rest : 2 * pace->rest;
    if (pace->rest > most_rest) pace->rest = most_rest;
    /* By the six steps of whichever is slower. */
    const double difference = pace->seconds[0] - pace->seconds[1];
    const double lost = 6 * (difference < 0 ? -difference : difference);
    /* A change is looked at again soon: something else may have kept the machine busy. */
    pace->left_rest =
        !changes && lost * rest_by_loss > pace->rest ? lost * rest_by_loss : pace->rest;
    pace->stage = REST;
}

fgd_piece fgd_plan_piece(fgd_pace *pace, size_t batch_size, int n_threads, int guess,
                         size_t n_steps)
{
    if (pace->batch_size != batch_size || pace->n_threads != n_threads) {
        /* No trial at once: sizes that take turns would never come to the end of one. */
        *pace = (fgd_pace){.batch_size = batch_size,
                           .n_threads = n_threads,
                           .uses_all = guess,
                           .stage = REST,
                           .left_rest = first_rest};
    } else if (pace->stage == REST && pace->left_rest <= 0) {
        begin_stage(pace, OTHER_WARM);
    }
    const int is_timed = pace->stage == OTHER_TIMED || pace->stage == PRESENT_TIMED;
    size_t most = is_timed && pace->left > timed_at_once ? timed_at_once : pace->left;
    if (pace->stage == REST) {
        const double steps = pace->step > 0 ? pace->left_rest / pace->step : 0;
        most = steps < 1 ? 1 : steps < (double)n_steps ? (size_t)steps : n_steps;
    }
    const int uses_all = pace->uses_all ^ (pace->stage <= OTHER_TIMED);
    return (fgd_piece){n_steps < most ? n_steps : most, uses_all ? n_threads : 1};
}

void fgd_note_piece(fgd_pace *pace, size_t n_steps, double seconds)
{
    if (pace->stage == REST) {
        pace->left_rest -= seconds;
        return;
    }
    if (pace->stage == OTHER_TIMED || pace->stage == PRESENT_TIMED) {
        double *fastest = &pace->seconds[pace->stage == PRESENT_TIMED];
        const double step = seconds / (double)n_steps;
        if (*fastest == 0 || step < *fastest) *fastest = step;
    }
    pace->left -= n_steps < pace->left ? n_steps : pace->left;
    if (pace->left > 0) return;
    if (pace->stage == PRESENT_TIMED) {
        decide(pace);
        return;
    }
    if (pace->stage == OTHER_WARM) pace->seconds[0] = pace->seconds[1] = 0;
    begin_stage(pace, pace->stage + 1);
}
