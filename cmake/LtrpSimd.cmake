# ltrp::simd: the vector kernels, compiled once per instruction set; which one runs is decided at run time.
ltrp_sources(LTRP_SIMD_SOURCES native/kernels/cpu/simd)
add_library(ltrp_simd INTERFACE)
add_library(ltrp::simd ALIAS ltrp_simd)

# ltrp_simd_level(<name> <bytes of a vector> <flags...>)
function(ltrp_simd_level level bytes)
  add_library(ltrp_simd_${level} OBJECT ${LTRP_SIMD_SOURCES})
  target_link_libraries(ltrp_simd_${level} PRIVATE ltrp::options)
  target_compile_definitions(ltrp_simd_${level} PRIVATE LTRP_SIMD_LEVEL=${level} LTRP_SIMD_BYTES=${bytes})
  # Contraction to fused multiply-adds is wanted here; vectors as arguments never cross a compiled boundary.
  target_compile_options(ltrp_simd_${level} PRIVATE ${ARGN} -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-psabi)
  if(NOT LTRP_SANITIZE)
    target_compile_options(ltrp_simd_${level} PRIVATE -O3)
  endif()
  target_sources(ltrp_simd INTERFACE $<TARGET_OBJECTS:ltrp_simd_${level}>)
endfunction()

ltrp_simd_level(plain 16)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  ltrp_simd_level(avx2 32 -mavx2 -mfma)
  # 512-bit vectors throughout: the compiler would rather use half of them.
  ltrp_simd_level(avx512 64 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mprefer-vector-width=512)
  target_compile_definitions(ltrp_kernels PRIVATE LTRP_SIMD_X86)
endif()
