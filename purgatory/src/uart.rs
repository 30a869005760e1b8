//! A transmitter for the three UARTs the purgatory knows, and numbers as text without `core::fmt` (whose tables of
//! functions would need relocations). Every wait is bounded: a UART that never gets ready is given up.

use crate::params::{REASON_TEXT, UartKind, UartParams};

/// Ports and registers. Addresses are physical, which in the purgatory is virtual.
pub trait Bus {
    /// Reads a port; 0xff where there are none.
    fn port_read(&self, port: u16) -> u8;
    /// Writes a port.
    fn port_write(&self, port: u16, value: u8);
    /// Reads a byte register.
    fn read8(&self, address: u64) -> u8;
    /// Writes a byte register.
    fn write8(&self, address: u64, value: u8);
    /// Reads a word register.
    fn read32(&self, address: u64) -> u32;
    /// Writes a word register.
    fn write32(&self, address: u64, value: u32);
}

/// How often a status register is read before the UART is given up. A register read takes 0.1 to 1 µs, a character
/// at 9600 baud 1 ms.
const POLLS: u32 = 100_000;

// 16550: registers by number, and bits of the line status register (PC16550D data sheet, 8.4).
const THR: u64 = 0;
const LSR: u64 = 5;
const LSR_THRE: u32 = 1 << 5;
const LSR_TEMT: u32 = 1 << 6;

// PL011: offsets and bits of the flag register (ARM DDI 0183, 3.3).
const DR: u64 = 0x00;
const FR: u64 = 0x18;
const FR_BUSY: u32 = 1 << 3;
const FR_TXFF: u32 = 1 << 5;

/// Prints on a UART, and keeps what it printed last.
#[derive(Debug)]
pub struct Console<B> {
    bus: B,
    kind: UartKind,
    base: u64,
    shift: u32,
    kept: [u8; REASON_TEXT],
    used: usize,
}

impl<B: Bus> Console<B> {
    /// A console on `uart`; mute where that names none.
    pub fn new(bus: B, uart: &UartParams) -> Self {
        Self {
            bus,
            kind: UartKind::from_code(uart.kind),
            base: uart.base,
            shift: uart.reg_shift.min(3),
            kept: [0; REASON_TEXT],
            used: 0,
        }
    }

    /// Starts a line. What is printed from here on is also kept, as far as there is room, and even if the UART is mute.
    pub fn line(&mut self) -> &mut Self {
        self.text("purgatory: ");
        self.used = 0;
        self
    }

    /// What was printed since [`Console::line`], without line ends.
    pub fn kept(&self) -> &[u8] {
        self.kept.get(..self.used).unwrap_or_default()
    }

    /// The bus it prints on.
    pub fn bus(&self) -> &B {
        &self.bus
    }

    /// Prints `text`; a line feed gets its carriage return.
    #[inline(never)]
    pub fn text(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.send(b'\r');
            }
            self.send(byte);
        }
        self
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: impl Iterator<Item = u8>) -> &mut Self {
        for byte in bytes {
            self.send(byte);
        }
        self
    }

    /// Prints `value` in decimal.
    #[inline(never)]
    pub fn decimal(&mut self, value: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut rest = value;
        let mut used = 0_usize;
        for digit in digits.iter_mut().rev() {
            *digit = low_digit(rest % 10);
            rest /= 10;
            used = used.saturating_add(1);
            if rest == 0 {
                break;
            }
        }
        for digit in digits.iter().skip(digits.len().saturating_sub(used)) {
            self.send(*digit);
        }
        self
    }

    /// Prints `value` as `0x…` without leading zeros.
    #[inline(never)]
    pub fn hex(&mut self, value: u64) -> &mut Self {
        self.text("0x");
        let nibbles = (67_u32.saturating_sub(value.leading_zeros()) / 4).max(1);
        for nibble in (0..nibbles).rev() {
            self.send(low_digit(value.wrapping_shr(nibble.wrapping_mul(4)) & 15));
        }
        self
    }

    /// Prints the first two bytes as four digits, and two dots for the rest.
    #[inline(never)]
    pub fn digest(&mut self, digest: &[u8; 32]) -> &mut Self {
        for byte in digest.iter().take(2) {
            self.send(low_digit(u64::from(byte >> 4)));
            self.send(low_digit(u64::from(byte & 15)));
        }
        self.text("..")
    }

    /// Waits, not for ever, until the last bit is on the wire.
    pub fn flush(&mut self) {
        match self.kind {
            UartKind::None => {}
            UartKind::Port16550 | UartKind::Mmio16550 => self.wait(LSR, LSR_TEMT, LSR_TEMT),
            UartKind::Pl011 => self.wait(FR, FR_BUSY, 0),
        }
    }

    #[inline(never)]
    fn send(&mut self, byte: u8) {
        if byte >= b' '
            && let Some(slot) = self.kept.get_mut(self.used)
        {
            *slot = byte;
            self.used = self.used.wrapping_add(1);
        }
        match self.kind {
            UartKind::None => return,
            UartKind::Port16550 | UartKind::Mmio16550 => self.wait(LSR, LSR_THRE, LSR_THRE),
            UartKind::Pl011 => self.wait(FR, FR_TXFF, 0),
        }
        match self.kind {
            UartKind::None => {}
            UartKind::Port16550 => self.bus.port_write(self.port(THR), byte),
            UartKind::Mmio16550 if self.shift >= 2 => self.bus.write32(self.register(THR), u32::from(byte)),
            UartKind::Mmio16550 => self.bus.write8(self.register(THR), byte),
            UartKind::Pl011 => self.bus.write32(self.base.wrapping_add(DR), u32::from(byte)),
        }
    }

    /// Until `register & mask == value`; afterwards the console is mute if that never came.
    fn wait(&mut self, register: u64, mask: u32, value: u32) {
        for _ in 0..POLLS {
            if self.status(register) & mask == value {
                return;
            }
            core::hint::spin_loop();
        }
        self.kind = UartKind::None;
    }

    fn status(&self, register: u64) -> u32 {
        match self.kind {
            UartKind::None => 0,
            UartKind::Port16550 => u32::from(self.bus.port_read(self.port(register))),
            UartKind::Mmio16550 if self.shift >= 2 => self.bus.read32(self.register(register)),
            UartKind::Mmio16550 => u32::from(self.bus.read8(self.register(register))),
            UartKind::Pl011 => self.bus.read32(self.base.wrapping_add(register)),
        }
    }

    fn register(&self, number: u64) -> u64 {
        self.base.wrapping_add(number.wrapping_shl(self.shift))
    }

    fn port(&self, number: u64) -> u16 {
        let [low, high, ..] = self.base.wrapping_add(number).to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// The hexadecimal digit of a value below 16.
fn low_digit(value: u64) -> u8 {
    let [digit, ..] = value.to_le_bytes();
    if digit < 10 {
        digit.wrapping_add(b'0')
    } else {
        digit.wrapping_sub(10).wrapping_add(b'a')
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
pub(crate) mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A UART that is always ready, or never; notes what was written, where, and how often it was asked.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Fake {
        pub(crate) sent: Rc<RefCell<Vec<u8>>>,
        pub(crate) places: Rc<RefCell<Vec<u64>>>,
        pub(crate) asked: Rc<RefCell<u32>>,
        pub(crate) stuck: bool,
    }

    impl Fake {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.sent.borrow().clone()).unwrap()
        }

        fn note(&self, place: u64, value: u32) {
            self.places.borrow_mut().push(place);
            self.sent.borrow_mut().push(value.to_le_bytes()[0]);
        }

        fn status(&self, ready: u32) -> u32 {
            *self.asked.borrow_mut() += 1;
            if self.stuck { ready ^ 0xff } else { ready }
        }
    }

    impl Bus for Fake {
        fn port_read(&self, port: u16) -> u8 {
            assert_eq!(port, 0x3fd);
            self.status(0x60).to_le_bytes()[0]
        }
        fn port_write(&self, port: u16, value: u8) {
            self.note(u64::from(port), u32::from(value));
        }
        fn read8(&self, address: u64) -> u8 {
            assert_eq!(address, 0xfe00_0005);
            self.status(0x60).to_le_bytes()[0]
        }
        fn write8(&self, address: u64, value: u8) {
            self.note(address, u32::from(value));
        }
        fn read32(&self, address: u64) -> u32 {
            match address {
                0x0900_0018 => self.status(0),
                0xfe00_0014 => self.status(0x60),
                other => panic!("{other:#x}"),
            }
        }
        fn write32(&self, address: u64, value: u32) {
            self.note(address, value);
        }
    }

    pub(crate) const PL011: UartParams = UartParams {
        kind: 3,
        reg_shift: 0,
        base: 0x0900_0000,
    };

    #[test]
    fn each_uart_is_written_where_it_listens() {
        for (kind, reg_shift, base) in [
            (UartKind::Port16550, 0, 0x3f8),
            (UartKind::Mmio16550, 0, 0xfe00_0000),
            (UartKind::Mmio16550, 2, 0xfe00_0000),
            (UartKind::Pl011, 0, 0x0900_0000),
        ] {
            let bus = Fake::default();
            let mut console = Console::new(
                bus.clone(),
                &UartParams {
                    kind: kind.code(),
                    reg_shift,
                    base,
                },
            );
            console.text("a\n").flush();
            assert_eq!(bus.text(), "a\r\n");
            assert!(bus.places.borrow().iter().all(|p| *p == base), "{kind:?}");
        }
    }

    #[test]
    fn a_uart_that_is_never_ready_is_given_up_once() {
        for (kind, base) in [
            (UartKind::Port16550, 0x3f8),
            (UartKind::Mmio16550, 0xfe00_0000),
            (UartKind::Pl011, 0x0900_0000),
        ] {
            let bus = Fake {
                stuck: true,
                ..Fake::default()
            };
            let mut console = Console::new(
                bus.clone(),
                &UartParams {
                    kind: kind.code(),
                    reg_shift: 0,
                    base,
                },
            );
            console.text("a long line that nobody reads\n").decimal(1).flush();
            assert_eq!(*bus.asked.borrow(), POLLS);
            assert_eq!(bus.text(), "");
        }
    }

    #[test]
    fn the_last_line_is_kept_whether_it_is_heard_or_not() {
        for uart in [PL011, UartParams { kind: 0, ..PL011 }] {
            let mut console = Console::new(Fake::default(), &uart);
            console.line().text("first\n");
            assert_eq!(console.kept(), b"first");
            console.line().text("second ").decimal(2).text("\n").flush();
            assert_eq!(console.kept(), b"second 2");
            for _ in 0..REASON_TEXT {
                console.text("ab");
            }
            assert_eq!(console.kept().len(), REASON_TEXT);
            assert!(console.kept().starts_with(b"second 2abab"));
        }
    }

    #[test]
    fn numbers() {
        let bus = Fake::default();
        let mut console = Console::new(bus.clone(), &PL011);
        console
            .decimal(0)
            .text(" ")
            .decimal(90_210)
            .text(" ")
            .decimal(u64::MAX)
            .text(" ");
        console
            .hex(0)
            .text(" ")
            .hex(0x10)
            .text(" ")
            .hex(u64::MAX)
            .text(" ")
            .digest(&[0x3f; 32]);
        assert_eq!(
            bus.text(),
            "0 90210 18446744073709551615 0x0 0x10 0xffffffffffffffff 3f3f.."
        );
    }
}
