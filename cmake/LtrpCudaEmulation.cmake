# ltrp_cuda_tests: the CUDA kernels compiled as C++ (LTRP_EMULATE_CUDA) and executed on the CPU, with the tests of
# native/test/cuda. Not part of `all`: `cmake --build <dir> --target ltrp_cuda_tests`, then ctest -R native.cuda. Needs
# neither nvcc nor a GPU.
ltrp_sources(LTRP_CUDA_TEST_SOURCES native/test/cuda)
ltrp_sources(LTRP_CUDA_EMULATION_SOURCES native/test/emulation)
ltrp_sources(LTRP_CUDA_HOST_SOURCES native/kernels/cuda)
# What asks the real driver has its counterpart in native/test/emulation and native/test/cuda.
list(FILTER LTRP_CUDA_HOST_SOURCES EXCLUDE REGEX "/(empty_|devices|current_device|queue|register)")
file(GLOB LTRP_CUDA_KERNEL_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/native/kernels/cuda/*.cu")

# The .cu files, through wrappers: another target of the same build may compile the very same files with nvcc, and a
# source file has one language.
set(LTRP_CUDA_KERNEL_WRAPPERS "")
foreach(source ${LTRP_CUDA_KERNEL_SOURCES})
  get_filename_component(name "${source}" NAME_WE)
  set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/emulated/${name}.cpp")
  file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${source}\"\n" @ONLY)
  list(APPEND LTRP_CUDA_KERNEL_WRAPPERS "${wrapper}")
endforeach()

# Kernels and emulation include no ATen, and get no precompiled header; they run ten thousands of threads, and are
# optimised. Under sanitizers ltrp::options has its own -O1, which this must not override.
add_library(ltrp_cuda_emulated OBJECT EXCLUDE_FROM_ALL ${LTRP_CUDA_KERNEL_WRAPPERS} ${LTRP_CUDA_EMULATION_SOURCES})
target_link_libraries(ltrp_cuda_emulated PUBLIC ltrp::options)
target_compile_definitions(ltrp_cuda_emulated PUBLIC LTRP_EMULATE_CUDA="test/emulation/cuda.h"
                                              PRIVATE LTRP_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
# #pragma unroll is nvcc's.
target_compile_options(ltrp_cuda_emulated PUBLIC -Wno-unknown-pragmas)
if(NOT LTRP_SANITIZE)
  target_compile_options(ltrp_cuda_emulated PRIVATE -O2)
endif()

add_executable(ltrp_cuda_tests EXCLUDE_FROM_ALL ${LTRP_CUDA_TEST_SOURCES} ${LTRP_CUDA_HOST_SOURCES} native/test/main.cpp)
target_link_libraries(ltrp_cuda_tests PRIVATE ltrp_cuda_emulated ltrp::openmp ltrp_core_lib ltrp_kernels ltrp::simd
                                              ltrp::options ltrp::libtorch)
target_precompile_headers(ltrp_cuda_tests PRIVATE <ATen/ATen.h>)
target_compile_definitions(ltrp_cuda_tests PRIVATE LTRP_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
target_compile_options(ltrp_cuda_tests PRIVATE -O1)
set_target_properties(ltrp_cuda_tests PROPERTIES BUILD_RPATH "${LTRP_LIBTORCH}/lib")
ltrp_register_tests(ltrp_cuda_tests ${LTRP_CUDA_TEST_SOURCES})
