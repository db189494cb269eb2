/* Part by part, so that the rows of a part are still in the cache when their next columns come.
 * Each column may lie in pages of its own: parts of fewer rows would miss in the TLB. */
#include "fgd_rows.h"

#include <stdint.h>
#include <string.h>

enum { PART_BYTES = 1024, TOGETHER = 8 }; /* of a column; columns */

#define ROWS_FROM_COLUMNS(NAME, ELEMENT)                                                    \
    static void NAME(ELEMENT *rows, size_t step, const void *const *columns, size_t n_rows, \
                     size_t n_columns)                                                      \
    {                                                                                       \
        size_t part = PART_BYTES / sizeof(ELEMENT);                                         \
        for (size_t first = 0; first < n_rows; first += part) {                             \
            size_t last = n_rows - first < part ? n_rows : first + part, c = 0;             \
            for (; c + TOGETHER <= n_columns; c += TOGETHER) {                              \
                for (size_t r = first; r < last; r++) {                                     \
                    ELEMENT values[TOGETHER];                                               \
                    for (size_t k = 0; k < TOGETHER; k++)                                   \
                        values[k] = ((const ELEMENT *)columns[c + k])[r];                   \
                    memcpy(rows + r * step + c, values, sizeof values);                     \
                }                                                                           \
            }                                                                               \
            for (; c < n_columns; c++) {                                                    \
                const ELEMENT *column = columns[c];                                         \
                for (size_t r = first; r < last; r++) rows[r * step + c] = column[r];       \
            }                                                                               \
        }                                                                                   \
    }

ROWS_FROM_COLUMNS(rows_of_1, uint8_t)
ROWS_FROM_COLUMNS(rows_of_2, uint16_t)
ROWS_FROM_COLUMNS(rows_of_4, uint32_t)
ROWS_FROM_COLUMNS(rows_of_8, uint64_t)

void fgd_rows_from_columns(size_t element_bytes, void *rows, size_t step,
                           const void *const *columns, size_t n_rows, size_t n_columns)
{
    switch (element_bytes) {
    case 1: rows_of_1(rows, step, columns, n_rows, n_columns); break;
    case 2: rows_of_2(rows, step, columns, n_rows, n_columns); break;
    case 4: rows_of_4(rows, step, columns, n_rows, n_columns); break;
    default: rows_of_8(rows, step, columns, n_rows, n_columns);
    }
}
