//! On made-up machines, with nothing mocked but the purgatory's code.

mod arrange;
mod layouts;
