/* The choice between one thread and all, by the seconds that steps are said to take.
 *   cc -O2 -Icsrc tests/c/test_pace.c csrc/fgd_pace.c -o test_pace && ./test_pace */
#include <stdio.h>
#include <stdlib.h>

#include "fgd_pace.h"

static size_t steps_of[2]; /* by one thread, by all */

static void expect(int ok, const char *what)
{
    if (ok) return;
    printf("%s FAILED\n", what);
    exit(1);
}

/* Trains n_steps in calls of most_steps, a step taking so many seconds by one thread and by all;
 * returns the seconds they took. */
static double train(fgd_pace *pace, size_t n_steps, size_t most_steps, double one, double all)
{
    double total = 0;
    steps_of[0] = steps_of[1] = 0;
    while (n_steps > 0) {
        size_t left = n_steps < most_steps ? n_steps : most_steps;
        n_steps -= left;
        while (left > 0) {
            const fgd_piece piece = fgd_plan_piece(pace, 32, 2, 0, left);
            expect(piece.n_steps >= 1 && piece.n_steps <= left, "a piece of what is left");
            expect(piece.n_threads == 1 || piece.n_threads == 2, "one thread or all");
            const double seconds = (double)piece.n_steps * (piece.n_threads == 2 ? all : one);
            total += seconds;
            steps_of[piece.n_threads == 2] += piece.n_steps;
            fgd_note_piece(pace, piece.n_steps, seconds);
            left -= piece.n_steps;
        }
    }
    return total;
}

int main(void)
{
    static const size_t calls[] = {1, 7, 1000, 1000000};
    for (int i = 0; i < 4; i++) {
        fgd_pace pace = {0};
        const size_t most = calls[i], n = 100000;
        double best = (double)n * 50e-6;
        expect(train(&pace, n, most, 50e-6, 150e-6) < 1.03 * best, "all are slower");
        expect(steps_of[1] > 0, "all are tried");
        /* What was true changes, as where a virtual machine's cores are does: it is noticed. */
        best = (double)n * 30e-6;
        expect(train(&pace, n, most, 50e-6, 30e-6) < 1.05 * best, "all are faster now");
        expect(steps_of[0] > 0, "one is tried");
        best = (double)n * 50e-6;
        expect(train(&pace, n, most, 50e-6, 90e-6) < 1.05 * best, "all are slower again");
        /* A difference within the noise changes nothing. */
        train(&pace, n, most, 50e-6, 49e-6);
        expect(steps_of[1] < n / 20, "hardly faster is not faster");
        /* A clock that stands still. */
        train(&pace, 1000, most, 0, 0);
        expect(steps_of[0] + steps_of[1] == 1000, "steps without a duration");
    }
    fgd_pace pace = {0};
    train(&pace, 100000, 1000, 50e-6, 30e-6);
    expect(pace.uses_all, "all are faster");
    expect(fgd_plan_piece(&pace, 33, 2, 0, 10).n_threads == 1, "another batch is guessed at");
    expect(fgd_plan_piece(&pace, 34, 2, 1, 10).n_threads == 2, "and another");
    /* Long steps, of which a trial loses much. */
    static const double longs[][2] = {{2e-3, 0.3e-3}, {30e-3, 4e-3}, {0.2e-3, 2e-3}};
    for (int i = 0; i < 3; i++) {
        const double one = longs[i][0], all = longs[i][1], best = 5000 * (one < all ? one : all);
        pace = (fgd_pace){0};
        expect(train(&pace, 5000, 1000, one, all) < 1.05 * best, "long steps");
    }
    /* A trial whose steps by all were disturbed: soon mended, though such a trial loses much. */
    pace = (fgd_pace){0};
    train(&pace, 500, 10, 3e-3, 2e-3);
    expect(pace.uses_all, "all are faster in steps of milliseconds");
    for (int i = 0; pace.uses_all && i < 5000; i++) train(&pace, 1, 1, 3e-3, 9e-3);
    expect(!pace.uses_all, "all are disturbed");
    train(&pace, 20, 1, 3e-3, 2e-3);
    expect(pace.uses_all, "and are so no longer");
    /* Of the timed steps by all, the first are disturbed in every trial. */
    pace = (fgd_pace){0};
    for (int i = 0, stage = -1; i < 20000; i++) {
        const fgd_piece piece = fgd_plan_piece(&pace, 32, 2, 1, 8);
        const int is_disturbed = piece.n_threads == 2 && pace.stage != stage;
        stage = pace.stage;
        const double step = piece.n_threads == 1 ? 2e-3 : is_disturbed ? 9e-3 : 1e-3;
        fgd_note_piece(&pace, piece.n_steps, (double)piece.n_steps * step);
        expect(pace.uses_all, "a disturbance does not decide");
    }
    puts("ok");
    return 0;
}
