# ltrp::simd: the vector kernels, compiled once per instruction set; which one runs is decided at run time.
ltrp_sources(LTRP_SIMD_SOURCES native/kernels/cpu/simd)
add_library(ltrp_simd INTERFACE)
add_library(ltrp::simd ALIAS ltrp_simd)

# ltrp_simd_objects(<name> <bytes of a vector> <flags...>): ltrp_simd_<name>
function(ltrp_simd_objects level bytes)
  add_library(ltrp_simd_${level} OBJECT EXCLUDE_FROM_ALL ${LTRP_SIMD_SOURCES})
  target_link_libraries(ltrp_simd_${level} PRIVATE ltrp::options)
  target_compile_definitions(ltrp_simd_${level} PRIVATE LTRP_SIMD_LEVEL=${level} LTRP_SIMD_BYTES=${bytes})
  # Contraction to fused multiply-adds is wanted here; vectors as arguments never cross a compiled boundary.
  target_compile_options(ltrp_simd_${level} PRIVATE ${ARGN} -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-psabi)
  if(NOT LTRP_SANITIZE)
    target_compile_options(ltrp_simd_${level} PRIVATE -O3)
  endif()
endfunction()

function(ltrp_simd_level level)
  ltrp_simd_objects(${level} ${ARGN})
  target_sources(ltrp_simd INTERFACE $<TARGET_OBJECTS:ltrp_simd_${level}>)
endfunction()

ltrp_simd_level(plain 16)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  ltrp_simd_level(avx2 32 -mavx2 -mfma)
  # 512-bit vectors throughout: the compiler would rather use half of them.
  ltrp_simd_level(avx512 64 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mprefer-vector-width=512)
  target_compile_definitions(ltrp_simd_avx512 PRIVATE LTRP_SIMD_NATIVE_PRODUCTS)
  # Compilers and assemblers of before 2021 do not know it; what they build has no level avx-vnni.
  include(CheckCXXSourceCompiles)
  check_cxx_source_compiles(
    "int main() { asm(\"%{vex%} vpdpbusd %%ymm0, %%ymm0, %%ymm0\" ::: \"xmm0\"); return __builtin_cpu_supports(\"avxvnni\"); }"
    LTRP_COMPILES_AVX_VNNI)
  if(LTRP_COMPILES_AVX_VNNI)
    target_compile_definitions(ltrp_simd_avx2 PRIVATE LTRP_SIMD_NATIVE_PRODUCTS)
    target_compile_definitions(ltrp_kernels PRIVATE LTRP_AVX_VNNI)
  endif()
  # Nor the tiles of AMX.
  check_cxx_source_compiles(
    "int main() { asm(\"tdpbf16ps %tmm2, %tmm1, %tmm0\"); return __builtin_cpu_supports(\"amx-bf16\"); }" LTRP_COMPILES_AMX)
  if(LTRP_COMPILES_AMX)
    target_compile_definitions(ltrp_simd_avx512 PRIVATE LTRP_SIMD_TILES)
    target_compile_definitions(ltrp_kernels PRIVATE LTRP_AMX)
  endif()
  target_compile_definitions(ltrp_kernels PRIVATE LTRP_SIMD_X86)
  # The source of AVX-512's kernels on pairs of AVX2's vectors: native/test/wide_level.cpp.
  ltrp_simd_objects(wide 64 -mavx2 -mfma)
  # And that of AMX's on a model of the tiles.
  if(LTRP_BUILD_TESTS)
    target_sources(ltrp_simd_wide PRIVATE native/test/tiles/model.cpp)
  endif()
endif()
