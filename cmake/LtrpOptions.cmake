# Flags of everything of ours (ltrp::options), source globbing, and registration of doctest files with ctest.
set(LTRP_WERROR_DEFAULT OFF)
add_library(ltrp_options INTERFACE)
add_library(ltrp::options ALIAS ltrp_options)
target_include_directories(ltrp_options INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/native")
target_include_directories(ltrp_options SYSTEM INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/native/third_party")
target_compile_definitions(ltrp_options INTERFACE LTRP_VERSION="${LTRP_VERSION}")
# Baseline x86-64: instruction sets beyond it are chosen at run time, so that one binary serves every machine.
# nvcc hands the same flags to the C++ compiler behind it.
function(ltrp_compile_options)
  list(JOIN ARGN "," joined)
  target_compile_options(
    ltrp_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${joined}>")
endfunction()
ltrp_compile_options(-Wall -Wextra -fvisibility=hidden -fvisibility-inlines-hidden)
# File names in messages and debug symbols: those of the project, not those of the machine that compiled it.
ltrp_compile_options(-ffile-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}/= -ffile-prefix-map=${LTRP_LIBTORCH}=libtorch)
# Warnings are errors with the compiler that the project is developed and checked with; a newer one's new warnings must not
# keep anybody from building.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(LTRP_WERROR_DEFAULT ON)
endif()
option(LTRP_WERROR "Warnings are errors" ${LTRP_WERROR_DEFAULT})
if(LTRP_WERROR)
  ltrp_compile_options(-Werror)
  target_compile_options(ltrp_options INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of GCC 12: on "literal" + std::string (GCC bug 105651), and on std::optional members under -O3.
  ltrp_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
endif()
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # nodelete: a Node worker that ends must not unmap code whose threads and static objects LibTorch still holds.
  target_link_options(ltrp_options INTERFACE $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,MODULE_LIBRARY>:-Wl,-z,nodelete>)
endif()
if(LTRP_SANITIZE)
  target_compile_options(
    ltrp_options INTERFACE -fsanitize=${LTRP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)
  # vptr needs type information of LibTorch's hidden classes, which its libraries do not export.
  if(LTRP_SANITIZE MATCHES "undefined")
    target_compile_options(ltrp_options INTERFACE -fno-sanitize=vptr)
  endif()
  target_link_options(ltrp_options INTERFACE -fsanitize=${LTRP_SANITIZE})
endif()

# ltrp_sources(<variable> <folder> [RECURSE]): the .cpp files of a folder, found again on every build. A folder without
# sources yields one empty file, so that a tree in which it is still missing configures.
function(ltrp_sources variable folder)
  if("RECURSE" IN_LIST ARGN)
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp")
  else()
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp")
  endif()
  if(NOT sources)
    string(MAKE_C_IDENTIFIER "${folder}" name)
    set(sources "${CMAKE_CURRENT_BINARY_DIR}/empty_${name}.cpp")
    if(NOT EXISTS "${sources}")
      set(text "")
      if(folder STREQUAL "native/test")
        set(text "int main() { return 0; }\n")
      endif()
      file(WRITE "${sources}" "${text}")
    endif()
  endif()
  set(${variable} "${sources}" PARENT_SCOPE)
endfunction()

# One ctest entry per test file: doctest filters by source file. main.cpp (the doctest main) has no cases.
function(ltrp_register_tests target)
  foreach(source ${ARGN})
    get_filename_component(name "${source}" NAME_WE)
    if(name STREQUAL "main" OR name MATCHES "^empty_")
      continue()
    endif()
    file(STRINGS "${source}" cases REGEX "TEST_CASE")
    if(NOT cases)
      continue()
    endif()
    get_filename_component(file "${source}" NAME)
    # native/test/cuda/x_test.cpp is native.cuda.x_test: folders may hold files of the same name.
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/native/test" OUTPUT_VARIABLE relative)
    get_filename_component(folder "${relative}" DIRECTORY)
    if(folder)
      string(REPLACE "/" "." folder "${folder}.")
    endif()
    add_test(NAME "native.${folder}${name}" COMMAND ${target} "--source-file=*/${file}"
             WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    set_tests_properties("native.${folder}${name}" PROPERTIES TIMEOUT 600 ENVIRONMENT OMP_WAIT_POLICY=passive)
  endforeach()
endfunction()
