/* Columns that lie apart, as tables have them, written side by side as rows. */
#ifndef FGD_ROWS_H
#define FGD_ROWS_H

#include <stddef.h>

/* Writes n_columns columns of n_rows elements of 1, 2, 4 or 8 bytes, at multiples of their size, into
 * rows that begin step elements apart. */
void fgd_rows_from_columns(size_t element_bytes, void *rows, size_t step,
                           const void *const *columns, size_t n_rows, size_t n_columns);

#endif
