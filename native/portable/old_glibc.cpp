// What newer headers of glibc and libstdc++ make of a call, for a binary that is to load with an older glibc
// too (cmake/LtrpPortable.cmake): there these names are not exported, and the old ones still are everywhere.
#include <features.h>
#include <sys/stat.h>

#define LTRP_LOCAL __attribute__((visibility("hidden")))

extern "C" {

#if __GLIBC_PREREQ(2, 33)
// Until glibc 2.33 these were functions of the caller, around others that take the layout's number.
int __xstat(int layout, const char* path, struct stat* result);
int __fxstat(int layout, int descriptor, struct stat* result);
int __lxstat(int layout, const char* path, struct stat* result);

#ifdef __x86_64__
inline constexpr int kStatLayout = 1;
#else
inline constexpr int kStatLayout = 0;
#endif

LTRP_LOCAL int stat(const char* path, struct stat* result) noexcept {
  return __xstat(kStatLayout, path, result);
}
LTRP_LOCAL int fstat(int descriptor, struct stat* result) noexcept {
  return __fxstat(kStatLayout, descriptor, result);
}

LTRP_LOCAL int lstat(const char* path, struct stat* result) noexcept {
  return __lxstat(kStatLayout, path, result);
}
#endif

// glibc 2.32 tells libstdc++ that counters need no atomic operations while there is one thread. Here there
// are always more.
LTRP_LOCAL extern char __libc_single_threaded;
char __libc_single_threaded = 0;

}  // extern "C"
