/* Whether a step is sooner done by one thread or by all: what threads read of each other's lines
 * takes from 10 microseconds to more than the step itself, by where the cores are, and a virtual
 * machine's change places.  So it is measured, and again now and then, on the steps themselves. */
#ifndef FGD_PACE_H
#define FGD_PACE_H

#include <stddef.h>

/* Zeroed where nothing has been measured. */
typedef struct {
    size_t batch_size; /* what it is about */
    int n_threads;
    int uses_all; /* what is known to be faster */
    int stage;    /* of a trial, or the rest after it */
    size_t left;  /* steps of the stage */
    double seconds[2]; /* of a trial's fastest steps: of the other way, of the present one */
    double step; /* seconds of a step */
    double rest, left_rest; /* seconds of steps between two trials, and until the next */
} fgd_pace;

/* A piece of a run: so many steps on so many threads. */
typedef struct {
    size_t n_steps;
    int n_threads;
} fgd_piece;

/* The next piece of n_steps that are left; n_threads > 1.  guess: whether all had better be used until
 * something is measured. */
fgd_piece fgd_plan_piece(fgd_pace *pace, size_t batch_size, int n_threads, int guess,
                         size_t n_steps);

/* After n_steps of that piece, which took so many seconds. */
void fgd_note_piece(fgd_pace *pace, size_t n_steps, double seconds);

#endif
