# The CUDA variant: -DLTRP_CUDA=ON with the CUDA build of LibTorch.
#
#   native/kernels/cuda/*.cu    kernels and their launchers, by nvcc, without LibTorch: a library of objects of their own
#   native/kernels/cuda/*.cpp   what reaches them from tensors, with the other operators (ltrp_kernels)
#
# LTRP_CUDA_ARCHITECTURES, as CMAKE_CUDA_ARCHITECTURES takes it ("90", "80;90"), or one of
#   native   this machine's GPU (one must be there)
#   all      every architecture that is published, and PTX for those to come
#
# Sets LTRP_CUDA_REAL and LTRP_CUDA_PTX: for which compute capabilities there is machine code, and PTX.
set(LTRP_CUDA_ARCHITECTURES "90" CACHE STRING "GPU architectures: a list such as 80;90, 'native' or 'all'")

if(NOT CMAKE_CUDA_HOST_COMPILER)
  set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}" CACHE FILEPATH "The C++ compiler behind nvcc")
endif()
# A plain number makes CMake add PTX to the machine code of the same architecture.
if(LTRP_CUDA_ARCHITECTURES STREQUAL "all")
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120)
else()
  set(CMAKE_CUDA_ARCHITECTURES "${LTRP_CUDA_ARCHITECTURES}")
endif()
# LibTorch opens a CUDA runtime of its own; a second, static one works beside it on the same context, and needs no file.
# It is named below: CMake's own -lcudart_static is not found with every layout of the toolkit.
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
if(LTRP_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${LTRP_CCACHE}")
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 does not know that nvcc can
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
find_package(CUDAToolkit REQUIRED)

# The CUDA that LibTorch was built for; the compiler's must be of the same major version, so that one driver serves both.
string(REGEX REPLACE "^cu([0-9]+)[0-9]$" "\\1" LTRP_CUDA_MAJOR "${LTRP_LIBTORCH_VARIANT}")
if(NOT LTRP_LIBTORCH_VARIANT MATCHES "^cu[0-9]+$")
  message(FATAL_ERROR "LTRP_CUDA is on, and ${LTRP_LIBTORCH} is LibTorch ${LTRP_LIBTORCH_MINOR} (${LTRP_LIBTORCH_VARIANT}), "
                      "not its CUDA build. `ltrp libtorch install --cuda` fetches that one.")
endif()
if(NOT CUDAToolkit_VERSION_MAJOR EQUAL LTRP_CUDA_MAJOR)
  message(FATAL_ERROR "LibTorch is built for CUDA ${LTRP_CUDA_MAJOR} and ${CMAKE_CUDA_COMPILER} is of CUDA "
                      "${CUDAToolkit_VERSION}: use a compiler of the same major version (-DCMAKE_CUDA_COMPILER=...).")
endif()

# What the list above came to ('native' is known after enable_language only).
set(LTRP_CUDA_REAL "")
set(LTRP_CUDA_PTX "")
set(architectures ${CMAKE_CUDA_ARCHITECTURES})
if("${architectures}" STREQUAL "native")
  set(architectures ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
endif()
foreach(architecture ${architectures})
  string(REGEX MATCH "^[0-9]+" number "${architecture}")
  if(NOT number)
    message(FATAL_ERROR "LTRP_CUDA_ARCHITECTURES takes numbers such as 90, 'native' or 'all', not '${architecture}'.")
  endif()
  if(NOT architecture MATCHES "-virtual$")
    list(APPEND LTRP_CUDA_REAL "${number}")
  endif()
  if(NOT architecture MATCHES "-real$")
    list(APPEND LTRP_CUDA_PTX "${number}")
  endif()
endforeach()
list(JOIN LTRP_CUDA_REAL "," LTRP_CUDA_REAL)
list(JOIN LTRP_CUDA_PTX "," LTRP_CUDA_PTX)
message(STATUS "CUDA ${CUDAToolkit_VERSION}: machine code for ${LTRP_CUDA_REAL}, PTX for ${LTRP_CUDA_PTX}")

# ---- the kernels ----------------------------------------------------------------------------------------------------
file(GLOB_RECURSE LTRP_CUDA_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/native/kernels/cuda/*.cu")
add_library(ltrp_cuda INTERFACE)
add_library(ltrp::cuda ALIAS ltrp_cuda)
if(LTRP_CUDA_SOURCES)
  add_library(ltrp_cuda_kernels OBJECT ${LTRP_CUDA_SOURCES})
  target_link_libraries(ltrp_cuda_kernels PRIVATE ltrp::options)
  # Lines of the source in what the profiler and compute-sanitizer print; the code stays the same.
  option(LTRP_CUDA_LINE_INFO "Keep source lines in the kernels' machine code" ON)
  if(LTRP_CUDA_LINE_INFO)
    target_compile_options(ltrp_cuda_kernels PRIVATE -lineinfo)
  endif()
  target_sources(ltrp_cuda INTERFACE $<TARGET_OBJECTS:ltrp_cuda_kernels>)
endif()

# ---- NCCL: its header alone, as LibTorch brings the library ---------------------------------------------------------
# Of pip's packages beside LibTorch, or of the system. LibTorch's own header names CUDA's libraries, which a toolkit of nvcc alone lacks.
find_path(LTRP_NCCL_INCLUDE nccl.h HINTS "${LTRP_LIBTORCH}/../nvidia/nccl/include" ${CUDAToolkit_INCLUDE_DIRS})
find_path(LTRP_CUSPARSE_INCLUDE cusparse.h HINTS ${CUDAToolkit_INCLUDE_DIRS} "${LTRP_LIBTORCH}/../nvidia/cu13/include")
if(LTRP_NCCL_INCLUDE AND LTRP_CUSPARSE_INCLUDE)
  set_source_files_properties(
    native/core/ranks/nccl_group.cpp PROPERTIES INCLUDE_DIRECTORIES "${LTRP_NCCL_INCLUDE};${LTRP_CUSPARSE_INCLUDE}"
                                                COMPILE_DEFINITIONS "LTRP_NCCL;USE_C10D_NCCL"
                                                SKIP_PRECOMPILE_HEADERS ON)
  message(STATUS "NCCL's header in ${LTRP_NCCL_INCLUDE}")
else()
  message(STATUS "No nccl.h and cusparse.h (-DLTRP_NCCL_INCLUDE=<folder> -DLTRP_CUSPARSE_INCLUDE=<folder>): several ranks train on CPUs only")
endif()

# ---- what links them ------------------------------------------------------------------------------------------------
foreach(library torch_cuda c10_cuda)
  if(NOT EXISTS "${LTRP_LIBTORCH}/lib/lib${library}.so")
    message(FATAL_ERROR "${LTRP_LIBTORCH} is not a complete LibTorch: lib/lib${library}.so is missing.")
  endif()
  # Nothing of ours names a symbol of torch_cuda: its operators register themselves when it is loaded.
  set(path "${LTRP_LIBTORCH}/lib/lib${library}.so")
  target_link_libraries(ltrp_cuda INTERFACE "-Wl,--push-state,--no-as-needed,${path},--pop-state")
endforeach()
target_link_libraries(ltrp_cuda INTERFACE CUDA::cudart_static)
target_include_directories(ltrp_cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
target_compile_definitions(
  ltrp_cuda INTERFACE LTRP_CUDA LTRP_CUDA_REAL="${LTRP_CUDA_REAL}" LTRP_CUDA_PTX="${LTRP_CUDA_PTX}")
