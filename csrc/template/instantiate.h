/* Every template once, for the element type that is selected now. */
#include "math.h"
#include "activations.h"
#include "gemm.h"
#include "transpose.h"

#include "dropout.h"
#include "few_samples.h"
#include "gather.h"
#include "losses.h"
#include "online.h"
#include "optimizers.h"
#include "reduce.h"
