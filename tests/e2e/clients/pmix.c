/* Two ranks tell each other a word through PMIx, with a fence between. */
#include <pmix.h>
#include <stdio.h>

int main(void)
{
    pmix_proc_t self, job, peer;
    pmix_value_t *size, *heard, word = {.type = PMIX_STRING};
    pmix_info_t collect;
    bool yes = true;

    if (PMIx_Init(&self, NULL, 0) != PMIX_SUCCESS)
        return 1;
    PMIX_LOAD_PROCID(&job, self.nspace, PMIX_RANK_WILDCARD);
    PMIX_LOAD_PROCID(&peer, self.nspace, !self.rank);
    word.data.string = self.rank ? "one" : "zero";
    if (PMIx_Get(&job, PMIX_JOB_SIZE, NULL, 0, &size) != PMIX_SUCCESS ||
        PMIx_Put(PMIX_GLOBAL, "word", &word) != PMIX_SUCCESS || PMIx_Commit() != PMIX_SUCCESS)
        return 2;
    PMIX_INFO_LOAD(&collect, PMIX_COLLECT_DATA, &yes, PMIX_BOOL);
    if (PMIx_Fence(NULL, 0, &collect, 1) != PMIX_SUCCESS ||
        PMIx_Get(&peer, "word", NULL, 0, &heard) != PMIX_SUCCESS)
        return 3;
    printf("rank %u of %u heard %s\n", self.rank, size->data.uint32, heard->data.string);
    return PMIx_Finalize(NULL, 0) == PMIX_SUCCESS ? 0 : 4;
}
