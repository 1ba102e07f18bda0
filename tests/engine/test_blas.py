"""One BLAS thread within a task, from any thread, and what was set before afterwards."""

import threading

from threadpoolctl import threadpool_info, threadpool_limits

from kmdist.engine.passes import one_blas_thread


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_every_thread_has_the_limit_and_the_old_one_returns() -> None:
    with one_blas_thread():
        pass
    with threadpool_limits(limits=2, user_api="blas"):
        pass
    before, seen = blas_threads(), []

    def use() -> None:
        with one_blas_thread():
            seen.append(blas_threads())

    use()
    for _ in range(3):
        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [{1}] * 13
    assert blas_threads() == before
