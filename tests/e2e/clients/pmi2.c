/* Two ranks tell each other a word through PMI-2's key-value space, with a barrier between. */
#include <slurm/pmi2.h>
#include <stdio.h>

int main(void)
{
    int spawned, size, rank, application, length;
    char key[16], word[16] = "";

    if (PMI2_Init(&spawned, &size, &rank, &application) != PMI2_SUCCESS)
        return 1;
    (void)snprintf(key, sizeof(key), "word%d", rank);
    if (PMI2_KVS_Put(key, rank ? "one" : "zero") != PMI2_SUCCESS ||
        PMI2_KVS_Fence() != PMI2_SUCCESS)
        return 2;
    (void)snprintf(key, sizeof(key), "word%d", !rank);
    if (PMI2_KVS_Get(NULL, PMI2_ID_NULL, key, word, sizeof(word), &length) != PMI2_SUCCESS)
        return 3;
    printf("rank %d of %d heard %s\n", rank, size, word);
    return PMI2_Finalize() == PMI2_SUCCESS ? 0 : 4;
}
