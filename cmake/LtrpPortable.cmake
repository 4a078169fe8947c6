# -DLTRP_STAND_INS=<folder>: link the two binaries that Node loads against stand-ins for glibc and libstdc++ that offer what an
# older system has (scripts/package/oldest-system.mjs makes them), so that they load there too. Empty: against this machine's.
set(LTRP_STAND_INS "" CACHE PATH "Stand-ins for the libraries of an older system")

# ltrp_portable(<target>)
function(ltrp_portable target)
  if(LTRP_STAND_INS)
    target_link_options(${target} PRIVATE "-L${LTRP_STAND_INS}")
    target_sources(${target} PRIVATE native/portable/old_glibc.cpp)
  endif()
endfunction()
