"""One map on two workers through joblib, from a cold start."""

import math

from joblib import Parallel, delayed

if __name__ == "__main__":
    roots = Parallel(n_jobs=2)(delayed(math.sqrt)(x) for x in range(8))
    assert roots == [math.sqrt(x) for x in range(8)]
