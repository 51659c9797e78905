//! HPACK's Huffman code (RFC 7541, appendix B). It is canonical: the lengths say it all.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The symbol that ends a string, and that no string may contain.
const END: usize = 256;

/// How many bits the code of each octet has, and that of [`END`].
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
    23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
    27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The code of each symbol: within a length, codes are counted up in the symbols' order.
static CODES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut symbols: Vec<usize> = (0..LENGTHS.len()).collect();
    symbols.sort_by_key(|symbol| LENGTHS[*symbol]);
    let mut codes = vec![0; LENGTHS.len()];
    let (mut code, mut length) = (0, 0);
    for symbol in symbols {
        code <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        codes[symbol] = code;
        code += 1;
    }
    codes
});

static SYMBOLS: LazyLock<HashMap<(u8, u32), usize>> = LazyLock::new(|| {
    let codes = LENGTHS.iter().zip(CODES.iter());
    let symbols = codes.map(|(length, code)| (*length, *code));
    symbols.zip(0..).collect()
});

/// Encodes, and fills the last octet with ones.
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut pending, mut bits) = (0_u64, 0);
    for octet in text {
        let length = LENGTHS[usize::from(*octet)];
        pending = pending << length | u64::from(CODES[usize::from(*octet)]);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
        }
    }
    if bits > 0 {
        let fill = 8 - bits;
        bytes.push((pending << fill) as u8 | ((1 << fill) - 1));
    }
    bytes
}

/// Decodes, as strictly as the RFC wants it.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1))
    {
        code = code << 1 | u32::from(bit);
        length += 1;
        match SYMBOLS.get(&(length, code)) {
            Some(&END) => return Err("EOS in a Huffman string".to_owned()),
            Some(&symbol) => {
                text.push(symbol as u8);
                (code, length) = (0, 0);
            }
            None if length > 30 => return Err("no such Huffman code".to_owned()),
            None => {}
        }
    }
    if length > 7 || code != (1 << length) - 1 {
        return Err(format!("{length} bits of wrong Huffman padding"));
    }
    Ok(text)
}
