// The threads of the OpenMP library that PyTorch has loaded. After a loop of PyTorch they wait for the next one by spinning,
// so threads of our own would compete with them for the processors, for a time slice (4 ms) after each loop. A thread that
// is created for a call starts as late where other processes compute.
#pragma once

#include <type_traits>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace deconvseg {

// The entry points of GCC's OpenMP, which LLVM's and Intel's have too; null where no library is loaded.
struct OpenMp {
    void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags) = nullptr;
    int (*index)() = nullptr;
    int (*count)() = nullptr;
    int (*in_parallel)() = nullptr;

    static const OpenMp& loaded() {
        static const OpenMp found = find();
        return found;
    }

    // Whether this thread can start a team of several threads.
    bool usable() const { return parallel != nullptr && in_parallel() == 0; }

  private:
    static OpenMp find() {
        OpenMp found;
// ThreadSanitizer does not know the barriers of a library that is not compiled for it.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
        const auto look_up = [](auto& function, const char* name) {
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
            return function != nullptr;
        };
        const bool complete = look_up(found.parallel, "GOMP_parallel") && look_up(found.index, "omp_get_thread_num") &&
                              look_up(found.count, "omp_get_num_threads") &&
                              look_up(found.in_parallel, "omp_in_parallel");
        if (!complete) found.parallel = nullptr;
#endif
        return found;
    }
};

}  // namespace deconvseg
