/* Every template once, for the element type that is selected now. */
#include "math.h"
#include "transpose.h"

#include "activations.h"
#include "dropout.h"
#include "gather.h"
#include "gemm.h"
#include "losses.h"
#include "online.h"
#include "optimizers.h"
#include "reduce.h"
