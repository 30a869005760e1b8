//! The contract between the stage and the purgatory: the code that runs between the two kernels.
#![no_std]
#![forbid(unsafe_code)]
