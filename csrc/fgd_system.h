/* What the C core takes of the system: threads, locks, a clock, aligned memory, by POSIX or by
 * Windows.  Linux's own ways with cores are in fgd_team.c. */
#ifndef FGD_SYSTEM_H
#define FGD_SYSTEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "fgd_common.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#endif

#if defined(_WIN32)
typedef SRWLOCK fgd_lock;
typedef CONDITION_VARIABLE fgd_condition;
FGD_INLINE void fgd_init_lock(fgd_lock *lock) { InitializeSRWLock(lock); }
FGD_INLINE void fgd_take(fgd_lock *lock) { AcquireSRWLockExclusive(lock); }
FGD_INLINE int fgd_try_take(fgd_lock *lock) { return TryAcquireSRWLockExclusive(lock) != 0; }
FGD_INLINE void fgd_give_back(fgd_lock *lock) { ReleaseSRWLockExclusive(lock); }
FGD_INLINE void fgd_init_condition(fgd_condition *c) { InitializeConditionVariable(c); }
FGD_INLINE void fgd_wait(fgd_condition *c, fgd_lock *lock)
{
    SleepConditionVariableSRW(c, lock, INFINITE, 0);
}
FGD_INLINE void fgd_wake_all(fgd_condition *c) { WakeAllConditionVariable(c); }

/* Nanoseconds of a clock that only goes forward. */
FGD_INLINE int64_t fgd_nanoseconds(void)
{
    LARGE_INTEGER frequency, now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    const int64_t second = frequency.QuadPart, rest = now.QuadPart % second;
    return now.QuadPart / second * 1000000000 + rest * 1000000000 / second;
}

/* What a thread runs: static FGD_THREAD name(void *argument), which returns 0. */
#define FGD_THREAD unsigned __stdcall
typedef unsigned(__stdcall *fgd_thread)(void *argument);

/* Starts a thread that nobody waits for; returns whether there is one. */
FGD_INLINE int fgd_start_thread(fgd_thread run, void *argument)
{
    const uintptr_t thread = _beginthreadex(NULL, 0, run, argument, 0, NULL);
    if (thread == 0) return 0;
    CloseHandle((HANDLE)thread);
    return 1;
}

/* There is no fork. */
FGD_INLINE void fgd_after_fork(void (*forget)(void)) { (void)forget; }

/* bytes at a multiple of alignment, a power of two, or NULL; given back by fgd_free_aligned. */
FGD_INLINE void *fgd_allocate_aligned(size_t alignment, size_t bytes)
{
    return _aligned_malloc(bytes, alignment);
}
FGD_INLINE void fgd_free_aligned(void *block) { _aligned_free(block); }

#else
typedef pthread_mutex_t fgd_lock;
typedef pthread_cond_t fgd_condition;
FGD_INLINE void fgd_init_lock(fgd_lock *lock) { pthread_mutex_init(lock, NULL); }
FGD_INLINE void fgd_take(fgd_lock *lock) { pthread_mutex_lock(lock); }
FGD_INLINE int fgd_try_take(fgd_lock *lock) { return pthread_mutex_trylock(lock) == 0; }
FGD_INLINE void fgd_give_back(fgd_lock *lock) { pthread_mutex_unlock(lock); }
FGD_INLINE void fgd_init_condition(fgd_condition *c) { pthread_cond_init(c, NULL); }
FGD_INLINE void fgd_wait(fgd_condition *c, fgd_lock *lock) { pthread_cond_wait(c, lock); }
FGD_INLINE void fgd_wake_all(fgd_condition *c) { pthread_cond_broadcast(c); }

/* Nanoseconds of a clock that only goes forward. */
FGD_INLINE int64_t fgd_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What a thread runs: static FGD_THREAD name(void *argument), which returns 0. */
#define FGD_THREAD void *
typedef void *(*fgd_thread)(void *argument);

/* Starts a thread that nobody waits for; returns whether there is one.  Signals are the business of
 * the caller's threads: Ctrl-C must not land in this one. */
FGD_INLINE int fgd_start_thread(fgd_thread run, void *argument)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int is_started = pthread_create(&thread, &attributes, run, argument) == 0;
#if defined(__linux__)
    if (is_started) pthread_setname_np(thread, "fastgd");
#endif
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return is_started;
}

FGD_INLINE void fgd_after_fork(void (*forget)(void)) { pthread_atfork(NULL, NULL, forget); }

/* bytes at a multiple of alignment, a power of two, or NULL; given back by fgd_free_aligned. */
FGD_INLINE void *fgd_allocate_aligned(size_t alignment, size_t bytes)
{
    void *block;
    return posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}
FGD_INLINE void fgd_free_aligned(void *block) { free(block); }
#endif

#endif
