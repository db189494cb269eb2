/* For the C tests: the first weights of a small float network. */
#ifndef FGD_TEST_WEIGHTS_H
#define FGD_TEST_WEIGHTS_H

#include "fgd_net.h"

static void set_weights(const fgd_net *net)
{
    for (size_t l = 0; l < net->n_layers; l++) {
        const fgd_layer *layer = &net->layers[l];
        float *w = layer->w;
        for (size_t i = 0; i < layer->fan_in; i++)
            for (size_t j = 0; j < layer->fan_out; j++)
                w[i * layer->ldw + j] = (float)((i * 7 + j * 3) % 13) / 26 - 0.25f;
    }
}

#endif
